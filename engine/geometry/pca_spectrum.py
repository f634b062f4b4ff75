"""The experiment ``pca-spectrum``: how many dimensions a model's activations really use."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.runs import Metric, Parameters, Run, RunStopped, experiment
from engine.runs.parameters import (
    Context,
    CorpusRef,
    Device,
    Dtype,
    HookName,
    IncludeSpecial,
    ModelRef,
    PrependBos,
    Seed,
    Threads,
    Tokens,
)

if TYPE_CHECKING:
    from engine.geometry.survey import Survey
    from engine.models.opening import OpenModel
    from engine.text.tokens import Contexts

BATCH = 8  # contexts in one forward pass
SCORES = 10  # components in the scatter
KEPT = 64  # components kept where there are very many
MASSIVE = 0.2  # share of variance in the ten longest activations from which on that is said
AROUND = 6  # tokens shown before and after a token


class PcaSpectrum(Parameters):
    """Parameters of ``pca-spectrum``."""

    model: ModelRef = "demo"
    text: CorpusRef = "stories"
    hook: HookName = "blocks.0.hook_resid_post"
    tokens: Tokens = 100_000
    context: Context = 128
    seed: Seed = 0
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0
    prepend_bos: PrependBos = True
    include_special: IncludeSpecial = False


METRICS = {
    "participation_ratio": Metric(
        "Participation ratio",
        "dimensions",
        "(Σλ)² / Σλ² of the covariance's eigenvalues λ: the number of equal variances that would spread as much",
    ),
    "explained_1": Metric("Component 1", "share", "λ₁ / Σλ: variance along the first component", group="explained"),
    "explained_10": Metric(
        "First 10 components", "share", "Sum of the 10 largest λ / Σλ: variance in ten components", group="explained"
    ),
    "dimensions_50": Metric(
        "Components for 50 %", "components", "Fewest components that hold half of the variance", group="dimensions"
    ),
    "dimensions_90": Metric(
        "Components for 90 %", "components", "Fewest components that hold 90 % of the variance", group="dimensions"
    ),
}
METRICS = {name: replace(metric, step="Tokens") for name, metric in METRICS.items()}


@experiment(
    "pca-spectrum",
    title="PCA spectrum",
    area="Geometry",
    metrics=METRICS,
    cites="Marchenko & Pastur 1967; Buja & Eyuboglu 1992 (permuted control); Gao et al. 2017 (participation ratio)",
)
def pca_spectrum(p: PcaSpectrum, run: Run) -> None:
    """How many dimensions the activations at a hook point use, and what they are.

    **Spectrum**: the variance along each principal component, largest first, both axes logarithmic. A straight
    line is a power law; a cliff says that the activations lie in a subspace. **Cumulative**: how many components
    it takes for a share of the variance. The **participation ratio** (Σλ)² / Σλ² sums it up in one number: it is
    the number of dimensions if all variances are equal, and 1 if one holds everything.

    **Compare with chance.** *Dimensions permuted* is the fair control: the same activations with each dimension
    shuffled over tokens by itself, which keeps every variance and destroys correlations. What exceeds it is
    shared between dimensions. *Marchenko–Pastur* is what as many samples of independent dimensions of equal
    variance give; its edge is the largest eigenvalue that noise alone reaches.

    **Scatter**: a random sample of tokens on any two components, coloured by position, norm or token id; the
    label shows the token in its context.

    Mean and covariance are summed in float64. Special tokens (BOS) are left out by default: their activations
    are often a hundred times as long and would be component 1. Intervals come from 1,000 bootstrap resamples of
    up to 50 groups of contexts (tokens of a context depend on each other).
    """
    import numpy as np

    from engine.geometry.survey import Survey
    from engine.models.capture import capture
    from engine.models.finite import demand_finite
    from engine.models.opening import open_model
    from engine.text.corpora import open_corpus
    from engine.text.tokens import contexts

    run.stage(f"Opening {p.model}")
    model = open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
    width = model.check_hook(p.hook)
    found = contexts(
        open_corpus(p.text, work=run.work), model, tokens=p.tokens, context=p.context, prepend_bos=p.prepend_bos,
        include_special=p.include_special, run=run,
    )  # fmt: skip
    run.fact("text", found.facts)
    if not p.include_special:
        run.say("Special tokens (BOS) are left out of the statistics.")
    survey = Survey(found.counted, width, p.seed)
    live = _Live(survey, p.hook, run)
    run.stage("Capturing activations")
    total, began = int(found.counted.sum()), run.seconds
    try:
        for part, rows in capture(model, found.ids, [p.hook], batch=BATCH):
            activations = rows[p.hook]
            numbers = np.arange(part.start, part.stop)
            demand_finite(activations, found.ids[part], numbers, found.counted[part], p.hook, model.tokenizer)
            survey.add(activations.cpu().numpy())
            live.refresh()
            run.progress(survey.tokens, total, "tokens", since=(0, began))
            run.point()
    except RunStopped:
        if survey.tokens >= 2:
            _finish(model, found, survey, p, run, stopped=True)
        raise
    _finish(model, found, survey, p, run)


class _Live:
    """Refreshes metrics and the spectrum about once a second, less often where that costs much."""

    def __init__(self, survey: Survey, hook: str, run: Run) -> None:
        self._survey = survey
        self._hook = hook
        self._run = run
        self._due = time.monotonic() + 0.3

    def refresh(self) -> None:
        """Show what is known so far, if it is time."""
        from engine.geometry import pca_figures, spectrum

        if time.monotonic() < self._due:
            return
        began = time.monotonic()
        tokens = self._survey.tokens
        data = spectrum.variances(self._survey.whole())
        if tokens > 2 and data.variances[0] > 0:
            control = spectrum.variances(self._survey.control.so_far())
            log(self._run, tokens, data)
            shares = pca_figures.shares(data, control, tokens)
            self._run.show("spectrum", pca_figures.spectrum_figure(shares, tokens, self._hook))
        ended = time.monotonic()
        self._due = ended + max(1.0, 9 * (ended - began))  # a tenth of the time at most


def log(run: Run, tokens: int, data: Any) -> None:
    """One row of each metric for the spectrum ``data`` of so many tokens."""
    run.log(
        tokens,
        participation_ratio=data.participation_ratio,
        explained_1=data.explained(1),
        explained_10=data.explained(10),
        dimensions_50=data.dimensions(0.5),
        dimensions_90=data.dimensions(0.9),
    )


def _finish(
    model: OpenModel, found: Contexts, survey: Survey, p: PcaSpectrum, run: Run, *, stopped: bool = False
) -> None:
    """All figures and arrays of what was seen; without intervals where a person waits for the run to stop."""
    import numpy as np

    from engine.geometry import pca_figures, spectrum
    from engine.geometry.survey import projected

    whole, tokens = survey.whole(), survey.tokens
    spectrum.demand_variance(whole, p.hook)
    data = spectrum.spectrum(whole)
    control = spectrum.variances(survey.control.so_far())
    noise = spectrum.Spectrum(spectrum.marchenko_pastur(survey.width, tokens), np.empty((0, survey.width)))
    log(run, tokens, data)
    shares = pca_figures.shares(data, control, tokens)
    run.show("spectrum", pca_figures.spectrum_figure(shares, tokens, p.hook))
    run.show("cumulative", pca_figures.cumulative_figure(shares, tokens, p.hook))
    places, rows = survey.sample
    scores = projected(rows, whole.mean, data.components[:SCORES])
    labels = _labels(model, found, places)
    ids = np.asarray(found.ids)[places[:, 0], places[:, 1]]
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    run.show(
        "scatter",
        pca_figures.scatter_figure(scores, data.shares, places[:, 1], norms, ids, labels, p.hook, tokens),
    )
    spread = None if stopped else spectrum.resample(survey.groups, data.components, p.seed)
    far, far_places = survey.far(whole)
    run.show("summary", pca_figures.summary_table(data, control, noise, tokens, survey.contexts, spread, far))
    if far > MASSIVE:
        longest = _labels(model, found, far_places[:1])[0]
        run.say(
            f"The {len(far_places)} longest of {tokens:,} activations hold {far:.0%} of the variance, so they decide the "
            f"first components; the longest is at {longest}.",
            "warning",
        )
    kept = data.components if survey.width <= 1_024 else data.components[:KEPT]
    run.keep("components", kept.astype(np.float32), rows="components, largest variance first", hook=p.hook)
    run.keep("variances", data.variances, unit="squared units of the activations", hook=p.hook)
    run.keep("mean", whole.mean, unit="units of the activations", hook=p.hook)
    run.fact("tokens", tokens)
    run.fact("participation_ratio", data.participation_ratio)


def _labels(model: OpenModel, found: Contexts, places: Any) -> list[str]:
    """Each sampled token in its context."""
    import numpy as np

    from engine.geometry.pca_figures import in_context

    special = set(model.tokenizer.all_special_ids)
    labels = []
    for context, position in places.tolist():
        ids = np.asarray(found.ids[context]).tolist()
        before = [token for token in ids[max(0, position - AROUND) : position] if token not in special]
        after = [token for token in ids[position + 1 : position + 1 + AROUND] if token not in special]
        texts = (model.tokenizer.decode(part) for part in (before, [ids[position]], after))
        labels.append(in_context(*texts))
    return labels
