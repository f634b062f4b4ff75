"""Gathers latents' positive activations from a model and carries out the experiment ``activation-priors``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries import prior_figures as figures
from engine.dictionaries.densities import DENSITIES
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, read
from engine.dictionaries.prior_ranking import LatentFit, Ranking, fit_latent, pairs
from engine.dictionaries.priors import FAMILIES, usable
from engine.models.capture import capture
from engine.models.finite import demand_finite
from engine.models.opening import OpenModel, open_model
from engine.runs.run import Run
from engine.text.corpora import open_corpus
from engine.text.tokens import Contexts, contexts

if TYPE_CHECKING:
    from engine.dictionaries.activation_priors import ActivationPriors

Array: TypeAlias = npt.NDArray[Any]
LEAST = 500  # positive samples below which nothing is fitted
BATCH = 8  # contexts in one forward pass
LOG_EVERY = 16  # latents between two points of the live curves
POOLED = 40_000  # samples drawn when all latents are drawn together


def fit_priors(p: ActivationPriors, run: Run) -> None:
    """Carry out the experiment ``activation-priors``."""
    model = open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
    dictionary = _dictionary(p, model, run)
    hook = dictionary.config.hook_in if dictionary else p.hook
    model.check_hook(hook)
    text = contexts(
        open_corpus(p.text, work=run.work), model, tokens=p.tokens, context=p.context, prepend_bos=p.prepend_bos,
        include_special=p.include_special, run=run,
    )  # fmt: skip
    run.fact("text", text.facts)
    run.stage("Capturing activations")
    sampler = Sampler(p.latents, p.samples, p.seed)
    total, began = int(text.counted.sum()), run.seconds
    for x in _activations(model, text, hook):
        sampler.add(*active(x, dictionary))
        run.progress(sampler.total, total, "activations", since=(0, began))
        run.point()
    samples = sampler.samples()
    ranking = _fitted(samples, sampler, p, run)
    what = f"latents of {p.dictionary}" if dictionary else f"units of {hook}"
    _show(ranking, samples, sampler, p, run, what)


def _dictionary(p: ActivationPriors, model: OpenModel, run: Run) -> Dictionary | None:
    """The session's dictionary, on the model's device; None where units themselves are asked for."""
    from engine.session import NotInSession, find_thing

    if not p.dictionary:
        return None
    if run.work is None:
        raise DictionaryError(f"There is no session to find the dictionary {p.dictionary} in; run this in its session.")
    try:
        dictionary = read(*find_thing(run.work, "dictionaries", p.dictionary)).to(model.device)
    except NotInSession:
        raise DictionaryError(
            f"dictionary={p.dictionary} is not in this session; give the id of a dictionary or of the run that trained "
            "it, or leave it empty for the units of the hook point."
        ) from None
    config = dictionary.config
    width = model.check_hook(config.hook_in)
    if width != config.d_in:
        raise DictionaryError(
            f"The dictionary {p.dictionary} reads {config.d_in:,} dimensions, but {config.hook_in} of "
            f"{model.facts.title} has {width:,}; choose the model {config.model}."
        )
    if config.activation in ("relu", "gated"):
        run.say(
            "The penalty this dictionary was trained with has shaped its activations already, so the ranking leans "
            "towards it; compare with a TopK or BatchTopK dictionary.",
            "warning",
        )
    return dictionary


def _activations(model: OpenModel, text: Contexts, hook: str) -> Iterator[Tensor]:
    """Activations (n, D) of the positions that count."""
    for part, rows in capture(model, text.ids, [hook], batch=BATCH):
        numbers = np.arange(part.start, part.stop)
        demand_finite(rows[hook], text.ids[part], numbers, text.counted[part], hook, model.tokenizer)
        yield rows[hook][torch.from_numpy(np.array(text.counted[part])).to(rows[hook].device)]


@torch.no_grad()
def active(x: Tensor, dictionary: Dictionary | None) -> tuple[int, int, Array, Array, Array]:
    """What is active on activations ``x`` (n, D).

    Returns:
        n; how many latents there are; and of each active one the row (active,), the latent (active,) and the
        value (active,), a known threshold subtracted. Without a dictionary units are latents where positive.
    """
    if dictionary is None:
        rows, latents = (x > 0).nonzero(as_tuple=True)
        values, width = x[rows, latents], x.shape[1]
    else:
        found = dictionary.encode(x)
        rows, latents, values, width = found.rows, found.indices, found.values, found.width
        if dictionary.calibrated and dictionary.threshold is not None:
            values = values - dictionary.threshold[latents]
    return len(x), width, rows.cpu().numpy(), latents.cpu().numpy(), values.cpu().numpy()


class Sampler:
    """A random sample of each latent's positive activations, and how often two are active together.

    Where there are more latents than wanted, those most active on the first batch are followed.

    Args:
        latents: followed at most.
        samples: kept of each latent at most.

    Attributes:
        total: activations seen.
        followed: (n,) numbers of the latents followed.
        both: (n, n) activations on which two are active; on the diagonal, on which one is.
    """

    def __init__(self, latents: int, samples: int, seed: int) -> None:
        self.total = 0
        self.followed: Array = np.empty(0, dtype=np.int64)
        self.both: Array = np.empty((0, 0), dtype=np.int64)
        self._latents, self._samples = latents, samples
        self._generator = np.random.default_rng([seed, 12])
        self._place: Array | None = None  # latent → its place in `followed`, −1 for others
        self._kept: list[Array] = [np.empty((3, 0))]  # place, key, value of entries
        self._highest: Array = np.empty(0)  # key beyond which no entry of a latent can stay

    def add(self, count: int, width: int, rows: Array, latents: Array, values: Array) -> None:
        """Take in what was active on ``count`` activations, as `active` gives it."""
        if self._place is None:
            self._follow(width, latents)
            assert self._place is not None
        place = self._place[latents]
        used = place >= 0
        rows, place, values = rows[used], place[used], values[used]
        self.total += count
        on = torch.zeros(count, len(self.followed))
        on[torch.from_numpy(rows), torch.from_numpy(place)] = 1
        self.both += (on.T @ on).numpy().astype(np.int64)
        # The entries with the smallest random keys are a sample without replacement, however many follow.
        keys = self._generator.random(len(place))
        chosen = (keys < self._highest[place]) & (values > 0)
        self._kept.append(np.stack([place[chosen], keys[chosen], values[chosen]]))
        if sum(part.shape[1] for part in self._kept) > 2 * self._samples * len(self.followed):
            self._prune()

    def samples(self) -> dict[int, Array]:
        """The sample (n,) of each latent followed, by its number."""
        self._prune()
        place, _, values = self._kept[0]
        cuts = np.searchsorted(place, np.arange(1, len(self.followed)))
        return dict(zip(self.followed.tolist(), np.split(values, cuts), strict=True))

    def _follow(self, width: int, latents: Array) -> None:
        counts = np.bincount(latents, minlength=width)
        self.followed = np.sort(np.argsort(-counts, kind="stable")[: self._latents])
        self._place = np.full(width, -1)
        self._place[self.followed] = np.arange(len(self.followed))
        self.both = np.zeros((len(self.followed), len(self.followed)), dtype=np.int64)
        self._highest = np.ones(len(self.followed))

    def _prune(self) -> None:
        """Keep each latent's entries with the smallest keys, sorted by latent."""
        place, keys, values = np.concatenate(self._kept, axis=1)
        order = np.lexsort((keys, place))
        place, keys, values = place[order], keys[order], values[order]
        starts = np.searchsorted(place, np.arange(len(self.followed)))
        rank = np.arange(len(place)) - starts[place.astype(np.int64)]
        last = rank == self._samples - 1
        self._highest[place[last].astype(np.int64)] = keys[last]
        self._kept = [np.stack([place, keys, values])[:, rank < self._samples]]


def _fitted(samples: dict[int, Array], sampler: Sampler, p: ActivationPriors, run: Run) -> Ranking:
    """Every family fitted to every latent that has enough samples; means over those so far are logged."""
    enough = {latent: values for latent, values in samples.items() if len(values) >= LEAST and usable(values)}
    if not enough:
        most = max((len(values) for values in samples.values()), default=0)
        raise DictionaryError(
            f"No latent has {LEAST} different positive activations among {sampler.total:,} activations (the most is "
            f"{most:,}), so nothing can be fitted; use more tokens."
        )
    run.stage("Fitting priors")
    generator = np.random.default_rng([p.seed, 13])
    fits: list[LatentFit] = []
    active = dict(zip(sampler.followed.tolist(), np.diag(sampler.both).tolist(), strict=True))
    for latent, values in run.track(enough.items(), total=len(enough), unit="latents"):
        fits.append(fit_latent(latent, values, active[latent], generator))
        if len(fits) % LOG_EVERY == 0 or len(fits) == len(enough):
            means = {f"nll_{name}": float(np.mean([fit.nll[name] for fit in fits])) for name in FAMILIES}
            run.log(len(fits), tail=_median([fit.tail for fit in fits]), **means)
    run.fact("latents_fitted", len(fits))
    run.fact("latents_with_too_few_samples", len(samples) - len(enough))
    return Ranking(tuple(fits), p.seed)


def _median(values: list[float]) -> float:
    """Median of those that are numbers: where activations are bounded a tail exponent can be huge."""
    found = [value for value in values if np.isfinite(value)]
    return float(np.median(found)) if found else float("nan")


def _show(
    ranking: Ranking, samples: dict[int, Array], sampler: Sampler, p: ActivationPriors, run: Run, what: str
) -> None:
    """All figures, facts and arrays."""
    drawn, name = _drawn(ranking, samples, p, run)
    together = pairs(sampler.followed, sampler.both, sampler.total)
    run.show("ranking", figures.ranking_bars(ranking, what))
    run.show("table", figures.ranking_table(ranking, what))
    run.show("histogram", figures.histogram_figure(drawn, name))
    run.show("qq", figures.quantile_figure(drawn, name, np.random.default_rng([p.seed, 14])))
    run.show("families", figures.families_table())
    run.show("penalties", figures.penalties_figure())
    run.show("slopes", figures.slopes_figure())
    run.show("latents", figures.latents_table(ranking))
    run.show("pairs", figures.pairs_table(together, ranking, sampler.total))
    if len(together.odds):
        run.log(len(ranking.fits), exclusive_pairs=together.exclusive, information_saved=together.saved)
    best = ranking.best_penalty
    run.fact("best_family", ranking.order[0])
    run.fact("best_penalty", DENSITIES[best].trains)
    if DENSITIES[best].trains == "lp":
        run.fact("penalty_p", ranking.parameter(best, 0))
    run.fact("entropy_of_which_are_active", together.entropy)
    names = list(FAMILIES)
    nll = np.array([[fit.nll[name] for name in names] for fit in ranking.fits])
    run.keep("nll", nll, rows="latents", columns=names, unit="nats, each latent in units of its median")
    run.keep("latents", np.array([fit.latent for fit in ranking.fits]), unit="number of the latent")
    run.keep("tail", np.array([fit.tail for fit in ranking.fits]), unit="Hill's tail exponent")


def _drawn(ranking: Ranking, samples: dict[int, Array], p: ActivationPriors, run: Run) -> tuple[Array, str]:
    """Samples for histogram and QQ plot, and what they are in words."""
    by_latent = {fit.latent: fit for fit in ranking.fits}
    if p.latent >= 0 and p.latent not in by_latent:
        run.say(f"Latent {p.latent} was not fitted, so all latents are drawn together.", "warning")
    if p.latent in by_latent:
        return samples[p.latent] / by_latent[p.latent].unit, f"latent {p.latent}"
    every = np.concatenate([samples[fit.latent] / fit.unit for fit in ranking.fits])
    generator = np.random.default_rng([p.seed, 15])
    chosen = generator.choice(len(every), size=min(POOLED, len(every)), replace=False)
    return every[chosen], f"{len(ranking.fits):,} latents together"
