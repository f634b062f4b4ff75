"""The causal tests of `number-helix`: patch the number in a sum, and take the directions of a and log a out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from engine.geometry import number_causal_figures
from engine.geometry.errors import GeometryError
from engine.geometry.number_ablation import ablation
from engine.geometry.number_patching import FULL, PatchResults, patching

if TYPE_CHECKING:
    from engine.geometry.number_activations import Chosen
    from engine.geometry.number_helix import NumberHelix
    from engine.geometry.number_report import Layer
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

PATCHING, BOOTSTRAP, ABLATION = range(20, 23)  # streams of the seed
MOST = 5  # hook points that are patched


def causal(p: NumberHelix, model: OpenModel, chosen: Chosen, best: Layer, hooks: Mapping[str, int], run: Run) -> None:
    """Patch and ablate at ``hooks``, with the numbers that the fits have not seen held out, and show what follows.

    A model that answers too few sums is no failure of the run: that is said.
    """
    fitted = best.scores.fit
    run.stage("Patching numbers")
    try:
        found = patching(
            model, chosen.template, np.unique(chosen.prompts.values), some(hooks), np.random.default_rng([p.seed, PATCHING]),
            pairs=p.pairs, periods=fitted.design.periods, dims=p.dims, train=fitted.train, prepend_bos=p.prepend_bos,
            single=chosen.single, run=run,
        )  # fmt: skip
    except GeometryError as problem:
        said = f"No causal test. {problem}"
        run.say(said, "warning")
        run.fact("patching", said)
        return
    for name, figure in number_causal_figures.figures(found, np.random.default_rng([p.seed, BOOTSTRAP])).items():
        run.show(name, figure)
    run.keep(
        "effects", found.effects, axes="hook point, method, pair", methods=list(found.methods), hooks=list(found.hooks)
    )
    run.fact("patching", sentence(found))
    run.say(sentence(found))
    run.stage("Taking directions out")
    try:
        without = ablation(
            model,
            found.sums,
            found.hooks[found.clearest],
            np.random.default_rng([p.seed, ABLATION]),
            prompts=p.pairs,
            run=run,
        )
    except GeometryError as problem:
        run.say(f"No ablation. {problem}", "warning")
        return
    drawn = number_causal_figures.ablation_figures(without, np.random.default_rng([p.seed, BOOTSTRAP]))
    for name, figure in drawn.items():
        run.show(name, figure)
    run.keep("ablated", without.changes, axes="direction, prompt", directions=list(without.names), unit="nats")


def some(hooks: Mapping[str, int]) -> dict[str, int]:
    """At most 5 of ``hooks``, from the first to the last: each costs a pass over all pairs for each method."""
    names = list(hooks)
    taken = np.unique(np.linspace(0, len(names) - 1, min(MOST, len(names))).round().astype(int))
    return {names[number]: hooks[names[number]] for number in taken.tolist()}


def sentence(found: PatchResults) -> str:
    """How far a helix does what the activation itself does, where that does most."""
    here = found.clearest
    mean, right = found.effects[here].mean(axis=1), found.right[here].mean(axis=1)
    rows = [
        f"{name} {mean[number]:+.2f} ({right[number]:.0%})"
        for number, name in enumerate(found.methods)
    ]  # fmt: skip
    return (
        f"Patched at {found.hooks[here]}, where the {FULL} does most, over {len(found.pairs.clean)} pairs: change of the other "
        f"answer's logit, and how often it is given: {', '.join(rows)}."
    )
