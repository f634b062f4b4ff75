"""Searching trained twins for a backdoor: all methods on each model, judged with sequences that no method has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.toys.backdoors import data, methods, twins
from engine.toys.backdoors.methods import Candidates
from engine.toys.backdoors.scoring import Verdict, auroc, effects, verdict
from engine.toys.backdoors.twins import Plan
from engine.toys.training import generator

DRAWN, JUDGED, METHOD = 11, 12, 13  # streams of a seed
LATENTS = ("local SAE", "end-to-end SAE", "PCA", "random directions")
WORDS = ("words and pairs", "embedding norm")
NORM = "activation norm"
ORACLE = "difference of means"
QUANTILE = 0.999  # of the activations' distances from the mean: how long a latent is made when it is forced on
COUNTED = 24_000  # activations on which frequencies are counted
PROBED = 32  # clean sequences on which effects are measured
SHOWN = 10  # latents in the table
EXAMPLES = 2_000  # sequences in which a latent's strongest context is looked for
EACH = 8  # sequences into which each pair of words is put


@dataclass(frozen=True)
class Setting:
    """What the detectors get.

    Attributes:
        sequences: of the data in which they look; fractions: shares of them that hold the trigger, unknown to them.
        judged: triggered and untriggered sequences by which they are judged.
        width, k: of the dictionaries; steps, batch: of their training; batch counts activations.
    """

    sequences: int
    fractions: tuple[float, ...]
    judged: int
    width: int
    k: int
    steps: int
    batch: int

    def triggered(self, fraction: float) -> int:
        """Sequences of the detectors' data that hold the trigger."""
        return round(fraction * self.sequences)


@dataclass(frozen=True)
class Material:
    """Sequences (n, 12) of one pair of twins: the detectors' clean ones, triggered ones to mix in, and the judges'.

    ``labelled`` and ``labelled_others`` are what only the oracle gets: triggered ones, and near misses.
    """

    clean: Tensor
    mixed_in: Tensor
    triggered: Tensor
    others: Tensor
    labelled: Tensor
    labelled_others: Tensor


def material(plan: Plan, setting: Setting, number: int) -> Material:
    """The sequences for the twins ``number``: of a pair, those to tell apart hold both words as well."""
    kind, source = plan.trigger, generator(plan.seed + number, DRAWN)
    most = max(setting.triggered(fraction) for fraction in setting.fractions)
    judge = generator(plan.seed + number, JUDGED)
    return Material(
        data.draw(setting.sequences, kind, source).tokens,
        data.draw(max(most, 1), kind, source, 1.0).tokens,
        data.draw(setting.judged, kind, judge, 1.0).tokens,
        data.draw_near_misses(setting.judged, kind, judge).tokens,
        data.draw(setting.judged, kind, judge, 1.0).tokens,
        data.draw_near_misses(setting.judged, kind, judge).tokens,
    )


@dataclass(frozen=True)
class Streams:
    """Residual streams (n, 12, d) of one model for the sequences of a `Material`."""

    clean: Tensor
    mixed_in: Tensor
    triggered: Tensor
    others: Tensor

    def data(self, mixed: int) -> Tensor:
        """What the detectors see where ``mixed`` of the clean sequences are replaced by triggered ones."""
        return torch.cat([self.mixed_in[:mixed], self.clean[mixed:]])


@torch.no_grad()
def residuals(weights: twins.Weights, tokens: Tensor, heads: int) -> Tensor:
    """Residual streams (n, 12, d) of one model."""
    return torch.cat([twins.residual(weights, part[None], heads)[0] for part in torch.split(tokens, methods.AT_ONCE)])


class Search:
    """Goes through the models of an ensemble and tries every method on each.

    Attributes:
        verdicts: by instance, method and fraction; methods that use no activations have fraction None.
    """

    def __init__(self, plan: Plan, weights: twins.Weights, setting: Setting) -> None:
        self.plan, self.setting = plan, setting
        self.weights = {name: weight.detach() for name, weight in weights.items()}
        self.materials = [material(plan, setting, number) for number in range(plan.seeds)]
        self.verdicts: dict[tuple[int, str, float | None], Verdict] = {}
        self.oracles: dict[int, float] = {}
        self.norms: dict[int, float] = {}
        self.examples: dict[int, list[str]] = {}
        self.trigger_rank: dict[int, int] = {}
        self.streams = [self._streams(instance) for instance in range(2 * plan.seeds)]

    @property
    def steps(self) -> int:
        """Units of work, for progress: end-to-end steps, then instances times fractions."""
        return self.setting.steps + 2 * self.plan.seeds * len(self.setting.fractions)

    def material(self, instance: int) -> Material:
        """The sequences of one model, which its twin shares."""
        return self.materials[instance % self.plan.seeds]

    def _streams(self, instance: int) -> Streams:
        own, one = self.material(instance), twins.one(self.weights, instance)
        parts = (own.clean, own.mixed_in, own.triggered, own.others)
        return Streams(*(residuals(one, part, self.plan.heads) for part in parts))

    # ---- the end-to-end dictionaries, all at once

    def end_to_end(self) -> Iterator[float]:
        """Train one for each model and fraction; gives the mean KL of each step."""
        setting, plan = self.setting, self.plan
        pairs = [(instance, fraction) for instance in range(2 * plan.seeds) for fraction in setting.fractions]
        index = torch.tensor([instance for instance, _ in pairs])
        means = torch.stack([stream.clean.mean(dim=(0, 1)) for stream in self.streams])
        model = {name: weight[index] for name, weight in self.weights.items()}
        source = generator(plan.seed, METHOD)
        self.joint = methods.EndToEnd(model, plan.heads, means[index], setting.width, setting.k, setting.steps, source)
        count = max(setting.batch // data.LENGTH, 1)
        for _ in range(setting.steps):
            rows = torch.randint(setting.sequences, (len(pairs), count), generator=source)
            batch = torch.stack([self._rows(*pair, some) for pair, some in zip(pairs, rows, strict=True)])
            yield self.joint.step(batch)

    def _rows(self, instance: int, fraction: float, rows: Tensor) -> Tensor:
        """Sequences ``rows`` of the detectors' data, without a copy of it all."""
        streams, mixed = self.streams[instance], self.setting.triggered(fraction)
        found = streams.clean[rows]
        if mixed:
            inside = rows < mixed
            found[inside] = streams.mixed_in[rows[inside]]
        return found

    # ---- one model

    def try_all(self) -> Iterator[int]:
        """Every method on each model at each fraction; gives the instance after each fraction."""
        for instance in range(2 * self.plan.seeds):
            self._without_activations(instance)
            for number, fraction in enumerate(self.setting.fractions):
                self._with_activations(instance, fraction, number)
                yield instance

    def _with_activations(self, instance: int, fraction: float, number: int) -> None:
        plan, setting, streams = self.plan, self.setting, self.streams[instance]
        seen = streams.data(setting.triggered(fraction)).flatten(0, 1)
        # Twins get the same random numbers, so that only what they have learnt differs.
        source = generator(plan.seed + instance % plan.seeds, METHOD + 1 + number)
        alike = generator(plan.seed + instance % plan.seeds, METHOD + 40)  # the same directions for all fractions
        joint = instance * len(setting.fractions) + number
        tried: dict[str, Callable[[], Candidates]] = {
            "local SAE": lambda: methods.local_sae(
                seen, setting.width, setting.k, setting.steps, setting.batch, source
            ),
            "end-to-end SAE": lambda: self.joint.candidates(joint),
            "PCA": lambda: methods.directions(seen, methods.principal(seen), setting.k),
            "random directions": lambda: methods.directions(
                seen, methods.random_directions(setting.width, seen.shape[1], alike), setting.k
            ),
        }
        for name in LATENTS:
            if name == "random directions" and number:  # nothing in the data changes them
                self.verdicts[instance, name, fraction] = self.verdicts[instance, name, setting.fractions[0]]
                continue
            found = tried[name]()
            self.verdicts[instance, name, fraction] = self._judged(instance, seen, found)
            if name == LATENTS[0] and number == len(setting.fractions) - 1:
                self.examples[instance] = self._examples(instance, found, self.shown(instance))

    def _judged(self, instance: int, seen: Tensor, found: Candidates) -> Verdict:
        streams, weights, heads = self.streams[instance], twins.one(self.weights, instance), self.plan.heads
        drawn = generator(self.plan.seed + instance % self.plan.seeds, JUDGED + 10)
        counted = seen[torch.randperm(len(seen), generator=drawn)[:COUNTED]]
        frequency = found.active(counted).double().mean(dim=0)
        away = (seen - seen.mean(dim=0)).norm(dim=1)
        length = float(away.sort().values[int(QUANTILE * (len(away) - 1))])
        probed = streams.clean[-PROBED:]  # those at the end are never replaced by triggered ones
        at = torch.randint(
            data.LENGTH, (len(probed),), generator=generator(self.plan.seed + instance % self.plan.seeds, JUDGED + 20)
        )

        def read_out(x: Tensor) -> Tensor:
            return twins.read_out(weights, x[None], heads)[0][:, [data.LABEL_A, data.LABEL_B]]

        effect = effects(read_out, probed, found.directions, length, at)
        told = auroc(self.highest(found, streams.triggered), self.highest(found, streams.others))
        return verdict(effect.double(), frequency, told, len(counted))

    def shown(self, instance: int) -> list[int]:
        """Latents of the local autoencoder at the largest fraction that the table lists: the first ones, and the best."""
        found = self.verdicts[instance, LATENTS[0], self.setting.fractions[-1]]
        first = found.order[:SHOWN].tolist()
        best = int(found.auroc.argmax())
        return first if best in first else [*first, best]

    def _examples(self, instance: int, found: Candidates, latents: list[int]) -> list[str]:
        """For each latent the words before and at its highest value in the detectors' clean data."""
        tokens = self.material(instance).clean[:EXAMPLES]
        values = found.read(self.streams[instance].clean[:EXAMPLES].flatten(0, 1))[:, latents]
        texts = []
        for column in values.T:
            sequence, position = divmod(int(column.argmax()), data.LENGTH)
            words = [data.VOCABULARY[int(token)] for token in tokens[sequence, : position + 1]]
            texts.append(" ".join([*words[:-1], f"[{words[-1]}]"]) if float(column.max()) > 0 else "never active there")
        return texts

    @staticmethod
    def highest(found: Candidates, x: Tensor) -> Tensor:
        """The highest value of each latent in each sequence (n, F) of residual streams ``x`` (n, 12, d)."""
        return found.read(x.flatten(0, 1)).view(len(x), data.LENGTH, -1).amax(dim=1)

    def _without_activations(self, instance: int) -> None:
        plan, own, weights = self.plan, self.material(instance), twins.one(self.weights, instance)
        source = generator(plan.seed + instance % plan.seeds, METHOD + 50)
        words, shift = methods.shifts(weights, plan.heads, own.clean, EACH, source)
        true = (data.U, data.V) if plan.trigger == "pair" else (data.T,)
        found = self._of_words(own, words, shift.double(), words.index(true))
        self.verdicts[instance, WORDS[0], None] = found
        self.trigger_rank[instance] = int((found.order == words.index(true)).nonzero()) + 1
        single: list[tuple[int, ...]] = [(word,) for word in range(len(data.WORDS))]
        norms = methods.odd_norms(weights).double()
        self.verdicts[instance, WORDS[1], None] = self._of_words(own, single, norms, true[-1])
        streams = self.streams[instance]
        mean = streams.clean.mean(dim=(0, 1))
        far = [(part - mean).norm(dim=2).amax(dim=1)[:, None] for part in (streams.triggered, streams.others)]
        self.norms[instance] = float(auroc(*far)[0])
        self.oracles[instance] = self._oracle(instance, own)

    @staticmethod
    def _of_words(own: Material, words: list[tuple[int, ...]], score: Tensor, true: int) -> Verdict:
        """A word or pair taken as a latent that is 1 where a sequence holds it; the first 64 and ``true`` are judged."""
        order = score.argsort(descending=True, stable=True)
        told = torch.full((len(words),), 0.5, dtype=torch.float64)
        for number in {*order[:64].tolist(), true}:
            one, other = (methods.holds(part, words[number]).double().mean() for part in (own.triggered, own.others))
            told[number] = 0.5 + (one - other) / 2
        return Verdict(order, score, score, torch.ones_like(score), told)

    def _oracle(self, instance: int, own: Material) -> float:
        """AUROC of the difference of means of labelled sequences, at the word that completes the trigger."""
        weights, heads, kind = twins.one(self.weights, instance), self.plan.heads, self.plan.trigger
        x, others = (residuals(weights, part, heads) for part in (own.labelled, own.labelled_others))
        same = (
            own.labelled_others == data.V if kind == "pair" else torch.ones_like(own.labelled_others, dtype=torch.bool)
        )
        direction = x[data.completing(own.labelled, kind)].mean(dim=0) - others[same].mean(dim=0)
        streams = self.streams[instance]
        scores = [(part @ direction).amax(dim=1)[:, None] for part in (streams.triggered, streams.others)]
        return float(auroc(*scores)[0])
