"""Transfer: a direction made from rows of one kind, measured on rows of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from engine.models.opening import OpenModel
from engine.steering import sweep_figures
from engine.steering.errors import SteeringError
from engine.steering.interventions import Intervention
from engine.steering.prepare import Prepared, prepare_with
from engine.steering.propensity import Questions, propensities
from engine.steering.samples import choose, subset, values_of
from engine.steering.steerability import agreement, slopes
from engine.steering.sweep_figures import Setting
from engine.steering.sweep_plan import Plan, choice_of, random_vector
from engine.steering.sweeping import Ticks

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.steering.steering_sweep import SteeringSweep

Floats: TypeAlias = npt.NDArray[np.float64]

STREAM = 31  # of the seed


def transfer(p: SteeringSweep, plan: Plan, model: OpenModel, at: Floats, setting: Setting, run: Run) -> None:
    """Slopes of rows with all but the first value of the factor: by a direction of their own kind, and by one of the first.

    Raises:
        SteeringError: the factor has one value only, or one side has too few rows.
    """
    values = values_of(plan.prompts, p.transfer)
    if len(values) < 2:
        raise SteeringError(
            f"The factor {p.transfer} has the value “{values[0]}” only, so there is nothing to carry a direction to; choose "
            "another factor, or leave transfer empty."
        )
    first, others = values[0] or "none", ", ".join(value or "none" for value in values[1:])
    there, _ = subset(plan.prompts, p.transfer, values[:1], f"{plan.prompts.name}, {p.transfer} {first}")
    here, numbers = subset(plan.prompts, p.transfer, values[1:], f"{plan.prompts.name}, {p.transfer} {others}")
    choice = choice_of(p, p.method)
    carried, own = (prepare_with(choice, part, model, run) for part in (there, here))
    samples = choose(
        here, own.held_out, factors=(), most=p.rows, random=np.random.default_rng([p.seed, STREAM]),
        targeted=plan.targeted, target=p.target,
    )  # fmt: skip
    run.stage(f"Carrying {p.method} from {p.transfer} {first}")
    questions = Questions(model, samples.prompts, samples.answers, prepend_bos=p.prepend_bos)
    ticks = Ticks(run)
    ticks.total = questions.size * (1 + 3 * (len(at) - 1))
    clean = questions.log_probabilities(p.hook, p.positions, heard=ticks)

    def measured(intervention: Intervention) -> Floats:
        found = propensities(questions, intervention, at, hook=p.hook, placement=p.positions, clean=clean, heard=ticks)
        return slopes(found.values, at).slope

    random = np.random.default_rng([p.seed, STREAM, 1])
    by_own, by_other, by_chance = (
        measured(one) for one in (own.intervention, carried.intervention, random_vector(own, random))
    )
    found, chance = agreement(by_own, by_other, random), agreement(by_own, by_chance, random)
    cosine = _cosine(own, carried)
    said = (
        f"Rows with {p.transfer} {others}. Up: by {p.method} made from {len(carried.fitted)} rows with {p.transfer} {first}; "
        f"across: by {p.method} made from {len(own.fitted)} rows of their own kind. Mean cosine of the two steps at strength 1: "
        f"{cosine:.2f}. Control: a random vector of equal norm, up, would have r = {chance.r:.2f} and slope {chance.slope:.2f}."
    )
    labels = [samples.prompts[number][-60:] or f"row {numbers[row]}" for number, row in enumerate(samples.rows)]
    run.show("transfer", sweep_figures.transfer_scatter(by_own, by_other, found, labels, said, setting))
    run.keep("transfer", np.stack([by_own, by_other, by_chance]), arms=["own kind", "transferred", "random vector"],
             axes="direction, sample", rows=[numbers[row] for row in samples.rows], unit="nats/strength")  # fmt: skip
    run.fact(
        "transfer",
        {
            "factor": p.transfer, "from": first, "to": list(values[1:]), "n": found.n, "r": found.r,
            "interval": list(found.interval), "spearman": found.rank, "slope": found.slope, "cosine": cosine,
            "random_r": chance.r,
        },
    )  # fmt: skip


def _cosine(own: Prepared, carried: Prepared) -> float:
    """Mean cosine of the steps that two interventions take from the same activations at strength 1."""
    x = own.bank
    with torch.no_grad():
        a, b = ((one.intervention(x, 1.0) - x).double() for one in (own, carried))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=1).mean())
