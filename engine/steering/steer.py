"""The steering bench's look: what a model writes with an intervention in place, beside what it writes without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from engine.runs.declaration import experiment
from engine.runs.parameters import Prompt
from engine.steering.choices import Steering

if TYPE_CHECKING:
    from engine.runs.run import Run


class Steer(Steering):
    """What is steered, how strongly, and what is written."""

    prompt: Prompt = (
        "one monday anna went to the park . she felt sad . anna saw a dog with a red ball ."
        " the dog wanted the red ball . at the park the dog"
    )
    strength: Annotated[
        float,
        Field(
            ge=-100,
            le=100,
            description="How strongly: 1 is the intervention as it was made, 0 leaves activations as they are",
        ),
    ] = 1.0
    new_tokens: Annotated[
        int, Field(ge=1, le=512, description="Tokens to generate", json_schema_extra={"unit": "tokens"})
    ] = 24
    temperature: Annotated[
        float,
        Field(ge=0, le=100, description="Divides the logits before a token is drawn; 0 takes the most likely token"),
    ] = 0.7
    top_p: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Draw only from the likeliest tokens whose probability first adds up to this; 1 from all",
            json_schema_extra={"advanced": True},
        ),
    ] = 1.0


@experiment(
    "steer",
    title="Steer a text",
    area="Steering",
    cites="Turner et al. 2023 (activation addition); Panickssery et al. 2023 (CAA); Tan et al. 2024 (reliability); "
    "Holtzman et al. 2020 (top-p)",
    lane="look",
)
def steer(parameters: Steer, run: Run) -> None:
    """Writes a text twice: as the model would, and with some of its activations changed.

    Both texts draw from the same random numbers, token by token (Gumbel noise of one seed), so they differ only where
    the model's predictions do; at strength 0 they are equal, except for `feature-clamp`, to which 0 is a value like
    others. Tokens outside the longest common subsequence of both are marked.

    **Logit changes** are those of the first generated token, where both texts still have the same past. **KL** is read
    along the clean text, prompt and continuation: how far steering moves each next-token distribution, in nats. Its
    control is a random direction that moves activations equally far: an intervention whose KL is no larger acts
    by its length alone. **Projections** show where the rows lie from which the direction was made: a strength that
    carries activations out of their range asks the model about something it has never seen.

    One text is one sample. Another seed or prompt may answer otherwise: `steering-sweep` measures that over prompts.
    Large strengths break the text before they change its meaning, so read the text itself and not only the numbers.
    """
    from engine.models.opening import open_model
    from engine.steering.prepare import prepare
    from engine.steering.steering_look import SteeringLook

    model = open_model(parameters.model, device=parameters.device, dtype=parameters.dtype, run=run)
    look = SteeringLook(parameters, model, prepare(parameters, model, run), run)
    look.write_first()
    look.write_rest()
    look.measure()
