"""The look ``sweep-estimate``: how long a steering sweep will take, before it is started."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from engine.figures.kinds import Axis, Table
from engine.runs.declaration import experiment
from engine.steering.steering_sweep import SteeringSweep

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

SMALL_MODEL = 5_000_000  # parameters of a model that is opened for an estimate
TIMED = 128  # tokens of the pass that is timed
BESIDE = 1.4  # of the passes' own time: predictions compared, batches of unequal rows
UNSHUFFLED = ("random", "learned", "feature-add", "feature-clamp")  # methods without a shuffled control
LETTERS = 4  # of a token of English, about


@experiment("sweep-estimate", title="Estimate a steering sweep", area="Steering", lane="look")
def sweep_estimate(p: SteeringSweep, run: Run) -> None:
    """Says how long a steering sweep with these parameters would take.

    One forward pass is timed and multiplied by the tokens of all passes: methods and controls, each at all strengths but
    0, over the rows with their completions and over the neutral text. It is timed where the model is open already or
    small; else the tokens alone are said. A rough guide: other programs that compute make it longer.
    """
    from engine.dictionaries.estimate import in_time
    from engine.text.prompts import open_prompts

    prompts = open_prompts(p.prompts, work=run.work)
    chosen = prompts.rows[: max(len(prompts.rows) // 2, 1)][: p.rows]
    controls = 1 if p.method in UNSHUFFLED else 2
    arms = len({p.method, *p.methods}) + controls
    model = _open(p, run)
    rows = sum(_tokens(model, row.prompt + row.positive) + _tokens(model, row.prompt + row.negative) for row in chosen)
    passes = (p.strengths - 1) * arms
    total = passes * (rows + p.tokens) + 2 * rows
    if p.transfer:
        total += (p.strengths - 1) * 3 * rows
    what = (
        f"{arms} methods and controls at {p.strengths} strengths, on at most {len(chosen):,} rows ({rows:,} tokens) and "
        f"{p.tokens:,} tokens of text"
    )
    if model is None:
        sentence, seconds = (
            f"{what}: {total:,} tokens in all. How long that takes is known once the model is open.",
            None,
        )
    else:
        seconds = _seconds(model, run) * total * BESIDE
        sentence = f"About {in_time(seconds)}: {what}."
    run.fact("sentence", sentence)
    run.fact("fits", True)
    run.fact("seconds", seconds)
    run.fact("tokens", total)
    cells = [
        ("Methods and controls", f"{arms:,}"), ("Passes of each", f"{p.strengths - 1:,}"),
        ("Tokens of rows in a pass", f"{rows:,}"), ("Tokens of text in a pass", f"{p.tokens:,}"),
        ("Tokens in all", f"{total:,}"), ("Time", "known once the model is open" if seconds is None else in_time(seconds)),
    ]  # fmt: skip
    run.show(
        "estimate",
        Table(
            title="Estimate",
            note=sentence,
            axes=(Axis("Part"), Axis("About")),
            columns=(np.array([name for name, _ in cells]), np.array([value for _, value in cells])),
        ),
    )


def _open(p: SteeringSweep, run: Run) -> OpenModel | None:
    """The model where it is open already, or small enough to be opened for this."""
    from engine.models.facts import facts_before
    from engine.models.opening import choose_device, open_model, open_models
    from engine.models.references import parse

    device = choose_device(p.device)
    before = facts_before(p.model, device=device, dtype=p.dtype, work=run.work)
    for model in open_models():
        if (model.reference, model.facts.device, model.facts.dtype) == (parse(p.model).text, device, p.dtype):
            return model
    if before.here and before.parameters <= SMALL_MODEL:
        return open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
    return None


def _tokens(model: OpenModel | None, text: str) -> int:
    """Tokens of ``text`` with BOS, by its letters where there is no tokenizer at hand."""
    return len(model.encode(text)) if model is not None else 1 + len(text) // LETTERS


def _seconds(model: OpenModel, run: Run) -> float:
    """Seconds a token of a forward pass takes, the faster of two after one that warms up."""
    import torch

    from engine.models.editing import edited_logits

    length = min(model.facts.context, 64)
    ids = (torch.arange(TIMED // length * length).view(-1, length) * 7 + 3) % model.facts.vocabulary
    times = []
    for _ in range(3):
        run.point()
        began = time.perf_counter()
        edited_logits(model, ids, [])
        times.append(time.perf_counter() - began)
    return min(times[1:]) / ids.numel()
