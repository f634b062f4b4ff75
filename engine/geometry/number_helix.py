"""The experiment `number-helix`: are numbers a helix in a model's activations, and is their logarithm there?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Device, Dtype, Parameters, PrependBos, Seed, Threads

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

_Period: TypeAlias = Annotated[float, Field(ge=2, le=10_000)]
PLANTED = 300  # numbers of the known helix


class NumberHelix(Parameters):
    """Parameters of `number-helix`."""

    model: str = Field(
        "",
        description="Model whose numbers to look at; empty: points of a known helix, the control",
        json_schema_extra={"widget": "model"},
    )
    hook: str = Field(
        "",
        description="Hook point; empty: the residual stream before the first block and after every block",
        json_schema_extra={"widget": "hook"},
    )
    numbers: Literal["auto", "single tokens", "digits in several tokens"] = Field(
        "auto",
        description="Which numbers: those that are one token, or all, read at the last of their tokens; auto takes "
        "single tokens where there are at least 20",
    )
    largest: int | None = Field(
        None,
        ge=9,
        le=9_999,
        description="Largest number; empty: 299, for several tokens 99, cut to whole hundreds; of a toy of sums its "
        "largest operand",
    )
    template: str = Field(
        "",
        max_length=500,
        description="Prompt with {a}, and {b} for a second number: {a}+{b}=; empty: the number alone",
    )
    place: Literal["number", "end"] = Field(
        "number", description="Where to read: at the number's last token, or at the last token of the prompt"
    )
    others: int = Field(10, ge=1, le=100, description="Second numbers b drawn for each a where the template has {b}")
    periods: list[_Period] = Field(
        [2, 5, 10, 100], min_length=1, max_length=12, description="Periods T of the helix, numbers per turn"
    )
    dims: int = Field(100, ge=1, le=1_000, description="Principal components that are fitted at most")
    pairs: int = Field(
        0,
        ge=0,
        le=2_000,
        description="Pairs of sums to patch, and sums to ablate, for a template with {b}; 0: no causal test",
    )
    noise: float = Field(0.3, ge=0, le=100, description="Noise on the known helix, standard deviation")
    hamming: bool = Field(False, description="Hamming window for the spectrum", json_schema_extra={"advanced": True})
    seed: Seed = 0
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0
    prepend_bos: PrependBos = True

    @model_validator(mode="after")
    def _prompts_need_a_model(self) -> NumberHelix:
        if not self.model and (self.hook or self.template or self.pairs):
            raise ValueError("hook, template and pairs are those of a model; name a model as well")
        if self.pairs and "{b}" not in self.template:
            raise ValueError(f"pairs={self.pairs} needs a sum to answer; give a template such as {{a}}+{{b}}=")
        if self.pairs == 1:
            raise ValueError("pairs=1 has no spread; take 100, or 0 for no causal test")
        return self


METRICS = {
    "helix": Metric(
        "Helix", "share", "R² of the helix with all numbers fitted, in the full space", group="R²", step="Layer"
    ),
    "held": Metric(
        "Helix, held-out numbers", "share", "R² of numbers not fitted, in 5 folds", group="R²", step="Layer"
    ),
    "shuffled": Metric(
        "Helix, numbers shuffled", "share", "Mean R² of 20 shuffles, all numbers fitted", group="R²", step="Layer"
    ),
    "polynomial": Metric(
        "Polynomial, held-out", "share", "R² of a polynomial with as many columns", group="R²", step="Layer"
    ),
    "log_beyond": Metric(
        "log a beyond a",
        "share",
        "Of what a leaves of log a, the share read off the activations, held-out numbers",
        group="Logarithm",
        step="Layer",
    ),
}


@experiment(
    "number-helix",
    title="Number helix",
    area="Geometry",
    cites="Kantamneni & Tegmark 2025, Language Models Use Trigonometry to Do Addition; Zhou et al. 2024, Pre-trained "
    "Large Language Models Use Fourier Features to Compute Addition; Newgas 2025 (logarithm)",
    metrics=METRICS,
)
def number_helix(p: NumberHelix, run: Run) -> None:
    """Are numbers a helix in a model's activations: a line, with circles of period 2, 5, 10 and 100?

    Fits h(a) ≈ mean + C B(a), B(a) = [1, a, cos 2πa/T, sin 2πa/T for each period T], by least squares on principal
    components, layer by layer, and looks for the logarithm of a as well. Without a model the points are a **known helix**
    (64 dimensions, noise 0.3) and a known code of the logarithm: what a result looks like when it is there.

    **How to read it.** *layers* and *fits*: a helix is there if numbers that were **held out** are predicted, far better
    than by a polynomial or random periods with as many columns, and nearly as well as by the same number of principal
    components, the ceiling. R² with all numbers fitted says little: shuffled numbers reach (columns - 1) / (numbers - 1).
    *helix*: the numbers on the axes of the helix, each as seen by a fit that does not know it; turn it. *spectrum*:
    periods above the dashed line stand out from shuffled numbers. *residuals*: the numbers at which it fails.

    **Logarithm.** *log*: log a is there as a direction if it is read beyond a, and a is not read beyond log a; R² alone
    says little, as the two are much alike. *angles*: whether cosines of log a explain more than lines, the helix and the
    last digit do, more than in shuffled residuals and more than cosines of a or √a. **Finding none is a result**, and the
    expected one; the planted curve shows that a code of 10 % of the variance would have been seen, and *control* that the
    same search finds the period of 10 along a itself, where there is one.

    **Numbers of a model.** Numbers that are one token are alike; others are dropped and counted. SmolLM2 has single
    digits only, so its numbers are read at the last of their digits; attention has to bring the others there, and numbers
    of one and of two digits differ for that reason alone. Ten digits are few to fit a helix to: periods that they cannot
    tell are left out. *digits* among the fits is the rival: a digit at each place by itself. A template `{a}+{b}=` reads a
    in sums, all prompts of a number held out together.

    **Cause.** With `pairs` the activation at a in a sum is replaced by what each fit predicts for another number, at up to 5
    hook points: *patching* shows how far the answer follows, *patched-pairs* each pair, and *ablation* what taking out the
    directions of a and log a does, beside random directions that remove as much variance.

    **Traps.** sin 2πa/2 is 0 on whole numbers and is left out; with it the design's condition number is 10¹³. PCA is
    fitted without the held-out numbers. Which numbers were held out is kept with the fit: use those to test it.
    """
    if p.model:
        _of_model(p, run)
    else:
        _of_planted(p, run)


def _of_planted(p: NumberHelix, run: Run) -> None:
    from engine.geometry.helix import Points
    from engine.geometry.number_report import Reporter
    from engine.geometry.synthetic_numbers import planted_helix, planted_log

    values = np.arange(PLANTED if p.largest is None else p.largest + 1)
    random = np.random.default_rng([p.seed, 1])
    numbers = f"{len(values)} numbers from 0 to {values[-1]}, 64 dimensions, noise of standard deviation {p.noise:g}."
    run.stage("Fitting the known helix")
    of_logarithm = (
        f"Numbers from 1 to {values[-1]}, 16 dimensions, unit noise: log a along a line, 0.7 cos(6 log a) apart."
    )
    reporter = Reporter(p, run, numbers, 1, of_logarithm)
    x = planted_helix(values, random, noise=p.noise, periods=p.periods)
    code = planted_log(values[1:], random, code=0.7)
    reporter.add(0, "known helix", Points(values, x), Points(values[1:], code))
    reporter.finish()


def _of_model(p: NumberHelix, run: Run) -> None:
    from engine.geometry import number_activations
    from engine.geometry.number_report import Reporter
    from engine.models.opening import open_model

    model = open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
    largest = number_activations.operands(model, run.work) if p.largest is None else p.largest
    chosen = number_activations.choose(
        model, np.random.default_rng([p.seed, 1]), numbers=p.numbers, largest=largest, template=p.template,
        place=p.place, others=p.others, prepend_bos=p.prepend_bos,
    )  # fmt: skip
    hooks = _hooks(p, model)
    numbers = chosen.sentence
    run.say(numbers)
    run.fact("dropped", chosen.dropped)
    alike, positive = chosen.alike, np.unique(chosen.prompts.values[chosen.prompts.values >= 1])
    of_logarithm = numbers
    if len(alike) < len(positive):
        of_logarithm = (
            f"{len(alike)} numbers from {alike[0]} to {alike[-1]} that take as many tokens as each other, since a step between "
            "numbers of different length looks like a logarithm."
        )
    reporter = Reporter(p, run, numbers, len(hooks), of_logarithm)
    run.stage("Reading activations of numbers")
    for hook, points in number_activations.read(model, chosen.prompts, list(hooks), run):
        run.stage(f"Fitting {hook}")
        reporter.add(hooks[hook], hook, points, points.of(alike))
    best = reporter.finish()
    if p.pairs:
        from engine.geometry.number_causal import causal

        causal(p, model, chosen, best, hooks, run)


def _hooks(p: NumberHelix, model: OpenModel) -> dict[str, int]:
    """Hook points to look at, with the number of blocks before each."""
    if p.hook:
        point = model.hook_point(p.hook)
        return {p.hook: 0 if point.layer is None else point.layer + (not p.hook.endswith("_pre"))}
    layers = range(model.facts.layers)
    return {"blocks.0.hook_resid_pre": 0} | {f"blocks.{layer}.hook_resid_post": layer + 1 for layer in layers}
