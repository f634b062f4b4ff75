"""The experiment ``activation-priors``: which prior fits a model's activations, and so which sparsity penalty."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from engine.dictionaries.densities import DENSITIES
from engine.runs import Metric, Parameters, Run, experiment
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


class ActivationPriors(Parameters):
    """Parameters of ``activation-priors``."""

    model: ModelRef = "demo"
    text: CorpusRef = "stories"
    dictionary: Annotated[
        str,
        Field(
            description="Dictionary of this session, or the run that trained it; empty fits the hook point's own units",
            json_schema_extra={"widget": "session-dictionary"},
        ),
    ] = ""
    hook: HookName = "blocks.0.mlp.hook_post"
    tokens: Tokens = 100_000
    context: Context = 128
    latents: Annotated[
        int,
        Field(
            ge=2,
            le=4_096,
            description="Latents to fit at most; of more, those most active on the first batch are taken",
            json_schema_extra={"unit": "latents"},
        ),
    ] = 1_024
    samples: Annotated[
        int,
        Field(
            ge=500,
            le=100_000,
            description="Positive activations of each latent to fit at most, drawn at random",
            json_schema_extra={"unit": "activations", "advanced": True},
        ),
    ] = 4_000
    latent: Annotated[
        int, Field(ge=-1, description="Latent drawn in histogram and QQ plot; −1 draws all of them together")
    ] = -1
    seed: Seed = 0
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0
    prepend_bos: PrependBos = True
    include_special: IncludeSpecial = False


METRICS = {
    f"nll_{name}": Metric(
        density.label,
        "nats",
        f"Negative log likelihood of the {density.label} density on the half of each latent's positive activations that "
        "it was not fitted to, in units of the latent's median; mean over latents so far",
        group="nll",
    )
    for name, density in DENSITIES.items()
} | {
    "tail": Metric(
        "Tail exponent",
        "",
        "Hill's estimate α of P(a > t) ∝ t^−α from the largest 5 % of each latent's activations, median over latents",
    ),
    "exclusive_pairs": Metric(
        "Exclusive pairs",
        "share",
        "Pairs with an odds ratio below 1 among the 200 pairs of latents most often active together",
    ),
    "information_saved": Metric(
        "Information in pairs",
        "nats/activation",
        "What the pairs tell of which latents are active: largest sum of mutual information over those 200 pairs that "
        "form no cycle",
    ),
}
METRICS = {name: replace(metric, step="Latents") for name, metric in METRICS.items()}


@experiment(
    "activation-priors",
    title="Priors of activations",
    area="Dictionaries",
    metrics=METRICS,
    cites="Olshausen & Field 1996; Hill 1975 (tail exponent); Woolf 1955 (odds ratio); Chow & Liu 1968 (pairs)",
)
def activation_priors(p: ActivationPriors, run: Run) -> None:
    """Which density fits the activations of latents best, and which sparsity penalty that is.

    A sparsity penalty is the negative logarithm of a prior: L1 says that active latents are exponentially
    distributed, log(1 + a²) that they are half Cauchy, (a/s)^p that they are generalised normal. Here eight
    families are fitted to the positive activations of each latent by maximum likelihood (latents with at least 500;
    a known threshold is subtracted). One random half is fitted, the other one is scored.

    **Ranking**: the mean *negative log likelihood* in nats on the half held out; lower is better, and 0.01 nats are
    little. Each latent is counted in units of its median, so that large latents do not decide. The bars' marks are
    95 % bootstrap intervals over latents; *behind* compares within each latent and is the sharper number. ΔAIC
    and ΔBIC add a price for parameters. Families named with a penalty can be chosen in `train-dictionary`.

    **Histogram and QQ plot**: points above the diagonal at the right say that the largest activations exceed what
    the family allows. The **tail exponent** says how heavy the tail is: exponential data give large values that grow
    with the sample, a half Cauchy gives 1.

    **Pairs**: all these priors treat latents as independent. Odds ratios above 1 are latents that come together,
    below 1 latents that exclude each other, which only the *product* penalty rewards. The pairs are those most
    often seen together, so ratios above 1 are over-represented.

    **Beware of circularity.** A dictionary trained with L1 has shrunk its activations already, and one that was
    trained with any penalty leans towards it. Fit TopK or BatchTopK dictionaries, or the units of an MLP (the
    default: leave `dictionary` empty; only positive values count). TopK cuts small activations off, which makes
    densities look less peaked at zero. Samples of one context depend on each other, so intervals are a
    little too narrow.
    """
    from engine.dictionaries.prior_survey import fit_priors

    fit_priors(p, run)
