"""From a person's choice to an intervention that is ready: directions are made once and kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from engine.steering.interventions import Intervention
from engine.text.prompt_sets import PromptSet

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.steering.choices import Steering


@dataclass(frozen=True, eq=False)
class Prepared:
    """An intervention with what one has to know of it.

    Attributes:
        intervention: what changes activations (n, width).
        hook: where.
        prompts: the set that it was made from;  fitted, held_out: its rows from which it was made, and the others.
        bank: (n, width) real activations at the hook, at the positions read, both classes: what distances are measured to.
        positive, negative: projections of the fitted rows on the unit direction, in units of the step at strength 1,
            from the midpoint of the two means: -.5 and +.5 on average; None without a direction.
        step: mean over the bank of the distance that strength 1 moves an activation.
        low, high: strengths that span the data's own range: 5th to 95th percentile of the projections.
        facts: plain values for the record (norms, cosines, shares of variance, what was left out).
    """

    intervention: Intervention
    hook: str
    prompts: PromptSet
    fitted: tuple[int, ...]
    held_out: tuple[int, ...]
    bank: Tensor
    positive: Tensor | None
    negative: Tensor | None
    step: float
    low: float
    high: float
    facts: dict[str, Any] = field(default_factory=dict)


def prepare(choice: Steering, model: OpenModel, run: Run) -> Prepared:
    """The intervention of ``choice``; the last few are kept, since a slider asks for the same one again and again.

    Raises:
        SteeringError: the set has no pairs, no labels or no second class where the method needs them.
        TextError, ModelError, DictionaryError: what is named cannot be opened.
    """
    raise NotImplementedError
