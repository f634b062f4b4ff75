"""Figures of ``activation-priors``: ranking, fitted curves, quantiles, penalties, pairs."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from engine.dictionaries.choices import Choices
from engine.dictionaries.densities import DENSITIES
from engine.dictionaries.penalties import PENALTIES, product, slopes, values
from engine.dictionaries.prior_ranking import Pairs, Ranking
from engine.dictionaries.priors import FAMILIES
from engine.figures.kinds import Axis, Bars, Lines, Table
from engine.figures.words import number

Array: TypeAlias = npt.NDArray[Any]
MEDIAN = "× median of the latent"
BINS = 60
QUANTILES = 120
EXPONENT = Choices.penalty_p


def ranking_bars(ranking: Ranking, what: str) -> Bars:
    """Mean held-out negative log likelihood by family, best first, with bootstrap intervals."""
    means = [ranking.nll(name) for name in ranking.order]
    return Bars(
        title="Which prior fits the activations",
        note=f"{_counted(ranking, what)} Marks: 95 % bootstrap intervals over latents. Lower is better. "
        f"{_penalty(ranking)}",
        x_axis=Axis("Family"),
        y_axis=Axis("Negative log likelihood, held out", "nats"),
        label=np.asarray([DENSITIES[name].label for name in ranking.order]),
        value=np.asarray([mean.value for mean in means]),
        low=np.asarray([mean.low for mean in means]),
        high=np.asarray([mean.high for mean in means]),
        horizontal=True,
    )


def ranking_table(ranking: Ranking, what: str) -> Table:
    """The ranking in numbers: means, intervals, spread, criteria, latents won, fitted parameters."""
    rows = []
    for name in ranking.order:
        density, nll, behind = DENSITIES[name], ranking.nll(name), ranking.behind(name)
        fitted = ", ".join(
            f"{word} = {number(ranking.parameter(name, place), 3)}" for place, word in enumerate(density.parameters)
        )
        rows.append(
            (
                density.label, nll.value, f"{number(nll.low)} to {number(nll.high)}", nll.deviation, behind.value,
                f"{number(behind.low)} to {number(behind.high)}", ranking.delta("aic", name),
                ranking.delta("bic", name), ranking.wins(name), fitted, density.trains or "–",
            )
        )  # fmt: skip
    axes = (
        Axis("Family"), Axis("NLL held out", "nats"), Axis("95 % interval", "nats"), Axis("Deviation over latents", "nats"),
        Axis("Behind the latent's best", "nats"), Axis("95 % interval of behind", "nats"), Axis("ΔAIC"), Axis("ΔBIC"),
        Axis("Best for", "latents"), Axis("Parameters, median"), Axis("Penalty"),
    )  # fmt: skip
    tails = [fit.tail for fit in ranking.fits if np.isfinite(fit.tail)]
    tail = f" Tail exponent (Hill, largest 5 %): median {number(float(np.median(tails)))}." if tails else ""
    return Table(
        title="Priors in numbers",
        note=f"{_counted(ranking, what)} ΔAIC and ΔBIC: of the fitted half, minus the latent's best, mean over "
        f"latents.{tail} {_penalty(ranking)}",
        axes=axes,
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def histogram_figure(samples: Array, name: str) -> Lines:
    """Density of ``samples`` (n,) in logarithmic bins with all families fitted to them, both axes logarithmic."""
    low, high = np.quantile(samples, 0.001), samples.max()
    counts, edges = np.histogram(samples, bins=np.geomspace(low, high * (1 + 1e-9), BINS + 1))
    filled = counts > 0
    middle = np.sqrt(edges[1:] * edges[:-1])[filled]
    rows = [counts[filled] / (np.diff(edges)[filled] * len(samples))]
    for family in FAMILIES.values():
        log_density = family.log_density(middle, *family.fit(samples))
        # A vanishing density is left out: a curve down to 10⁻³⁰⁰ would hide all others.
        rows.append(np.where(log_density > np.log(rows[0].min() / 100), np.exp(log_density), np.nan))
    return Lines(
        title=f"Activations of {name} and fitted priors",
        note=f"n = {len(samples):,} positive activations. Curves are fitted to all of them by maximum likelihood.",
        x_axis=Axis("Activation", MEDIAN, "log"),
        y_axis=Axis("Density", "", "log"),
        series=("activations", *(density.label for density in DENSITIES.values())),
        x=middle,
        y=np.stack(rows),
    )


def quantile_figure(samples: Array, name: str, generator: np.random.Generator) -> Lines:
    """QQ plot: quantiles of one half of ``samples`` (n,) against those of each family fitted to the other half."""
    shuffled = generator.permutation(samples)
    train, test = shuffled[: len(samples) // 2], shuffled[len(samples) // 2 :]
    # Even in the logit, so that both tails are seen, as far as five samples beyond.
    edge = np.log(len(test) / 5 - 1)
    shares = 1 / (1 + np.exp(-np.linspace(-edge, edge, QUANTILES)))
    found = np.quantile(test, shares)
    expected = np.stack([family.quantile(shares, *family.fit(train)) for family in FAMILIES.values()])
    return Lines(
        title=f"Quantiles of {name} against fitted priors",
        note=f"n = {len(test):,} activations held out, {len(train):,} fitted. On the diagonal the family fits; above it at "
        "the right, the largest activations exceed what the family allows.",
        x_axis=Axis("Quantile of the fitted prior", MEDIAN, "log"),
        y_axis=Axis("Quantile of the activations", MEDIAN, "log"),
        series=("equal", *(density.label for density in DENSITIES.values())),
        x=np.concatenate([found[None], expected]),
        y=np.repeat(found[None], len(FAMILIES) + 1, axis=0),
    )


def families_table() -> Table:
    """Each family with its formula, the penalty it stands for and what that does; then penalties without a family."""
    rows = [(one.label, one.density, one.penalty, one.trains or "–", one.remark) for one in DENSITIES.values()]
    named = {one.trains for one in DENSITIES.values()}
    rows += [("None", "–", one.formula, name, one.prior) for name, one in PENALTIES.items() if name not in named]
    labels = ("Prior", "Density on a > 0", "Penalty (−log density, up to a constant)", "In train-dictionary", "Remark")
    return Table(
        title="Priors and the penalties they stand for",
        note="a is an active latent and s its scale; most latents are 0, which a spike beside the density stands for.",
        axes=tuple(Axis(label) for label in labels),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


_UNIT = "The scale s of each is the median positive activation, and its coefficient is such that its slope there is 1."


def penalty_curves() -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """Activations a (n,) in units of s, and by name each penalty and its slope (n,), scaled to slope 1 at a = 1.

    The product is what one latent adds beside another one at the median; alone it is l1, of the same scale.
    """
    a = torch.linspace(0.0, 6.0, 301, dtype=torch.float64)[1:]
    one = torch.ones(1, dtype=torch.float64)
    found = {}
    for name in PENALTIES:
        if name == "product":
            continue
        unit = float(slopes(name, one, 1.0, EXPONENT))
        label = f"lp, p = {EXPONENT:g}" if name == "lp" else "l1, product alone" if name == "l1" else name
        curves = values(name, a, 1.0, EXPONENT) / unit, slopes(name, a, 1.0, EXPONENT) / unit
        found[label] = (curves[0].numpy(), curves[1].numpy())
    total, derivative = product(a.log1p() + one.log1p())
    alone = product(one.log1p())[0]
    found["product, one other at the median"] = ((total - alone).numpy(), (derivative / (1 + a)).numpy())
    return a.numpy(), found


def penalties_figure() -> Lines:
    """The shapes of the penalties that dictionaries can be trained with."""
    a, curves = penalty_curves()
    return Lines(
        title="Penalties",
        note=f"{_UNIT} The product's is what one latent adds: alone it is l1, beside another at the median twice that.",
        x_axis=Axis("Activation", MEDIAN),
        y_axis=Axis("Penalty"),
        series=tuple(curves),
        x=a,
        y=np.stack([penalty for penalty, _ in curves.values()]),
    )


def slopes_figure() -> Lines:
    """Slopes of the penalties: how strongly a latent of each size is pulled to zero."""
    a, curves = penalty_curves()
    return Lines(
        title="Slopes of the penalties",
        note=f"{_UNIT} The slope is the pull towards zero: where it stays high for large activations they shrink.",
        x_axis=Axis("Activation", MEDIAN),
        y_axis=Axis("Slope", "", "log"),
        series=tuple(curves),
        x=a,
        y=np.stack([slope for _, slope in curves.values()]),
    )


def latents_table(ranking: Ranking) -> Table:
    """Every latent that was fitted: samples, best two families and the distance, tail exponent, median."""
    rows = []
    for fit in ranking.fits:
        first, second = sorted(fit.nll, key=fit.nll.__getitem__)[:2]
        gap = fit.nll[second] - fit.nll[first]
        rows.append(
            (
                fit.latent,
                fit.count,
                DENSITIES[first].label,
                fit.nll[first],
                DENSITIES[second].label,
                gap,
                fit.tail,
                fit.unit,
            )
        )
    axes = (
        Axis("Latent"), Axis("Samples"), Axis("Best"), Axis("NLL held out", "nats"), Axis("Second"),
        Axis("Behind", "nats"), Axis("Tail exponent"), Axis("Median activation"),
    )  # fmt: skip
    return Table(
        title="Latents",
        note=f"n = {len(rows):,} latents with at least 500 positive activations. Gaps below 0.02 nats are ties.",
        axes=axes,
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def pairs_table(found: Pairs, ranking: Ranking, total: int) -> Table:
    """Odds ratios of the pairs most often active together, smallest first."""
    order = np.argsort(found.odds)
    columns = (
        found.first, found.second, found.together, found.expected, found.odds, found.low, found.high, found.information,
    )  # fmt: skip
    axes = (
        Axis("Latent"), Axis("With latent"), Axis("Together", "activations"), Axis("If independent", "activations"),
        Axis("Odds ratio"), Axis("Low", "95 % interval"), Axis("High", "95 % interval"), Axis("Information", "nats"),
    )  # fmt: skip
    if len(order):
        share = found.saved / found.entropy
        said = (
            f"the {len(order):,} pairs most often active together. {found.exclusive:.0%} of them have an odds ratio below 1: "
            "they exclude each other, which no prior of independent latents expresses. Saying which latents are active "
            f"costs {number(found.entropy)} nats/activation if they are independent; these pairs save "
            f"{number(found.saved)} of them ({share:.1%}). Saying how large the fitted ones are, each in units of its "
            f"median, costs {number(ranking.length(total))} by the best family of each. Pairs were chosen for coming "
            "together, so ratios above 1 are over-represented."
        )
    else:
        said = "no two of the latents were active together."
    return Table(
        title="Are latents independent?",
        note=f"n = {total:,} activations; {said}",
        axes=axes,
        columns=tuple(column[order] for column in columns),
    )


def _counted(ranking: Ranking, what: str) -> str:
    samples = sum(fit.count for fit in ranking.fits)
    return (
        f"n = {len(ranking.fits):,} {what} with {samples:,} positive activations; half of them fitted, half scored, each "
        "latent in units of its median."
    )


def _penalty(ranking: Ranking) -> str:
    name = ranking.best_penalty
    exponent = f" with p = {number(ranking.parameter(name, 0), 3)}" if DENSITIES[name].trains == "lp" else ""
    return f"Best among those with a penalty in train-dictionary: {DENSITIES[name].trains}{exponent}."
