"""Damage: what an intervention does to the prediction of neutral text, and success compared where damage is equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.editing import Edit
from engine.models.repeated import Repeated
from engine.steering.choices import Placement
from engine.steering.errors import SteeringError
from engine.steering.interventions import Intervention
from engine.steering.propensity import LOGITS, TOGETHER, edit_at, held

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.text.tokens import Contexts

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Interval: TypeAlias = tuple[float, float]

MATCHED = 0.05  # nats per token of added cross entropy at which methods are compared
PIECE = 1 << 22  # logits that are compared at once
KEPT = 1 << 29  # bytes of clean predictions that are held on to; beyond that they are computed again


@dataclass(frozen=True, eq=False)
class Damage:
    """Damage of each context at each strength.

    Attributes:
        strengths: (strengths,).
        ce: (contexts, strengths) added cross entropy, nats per token: steered less clean.
        kl: (contexts, strengths) KL(clean ‖ steered), nats per token.
        clean: (contexts,) cross entropy of the clean model, nats per token.
        tokens: (contexts,) predictions counted in each context.
    """

    strengths: Floats
    ce: Floats
    kl: Floats
    clean: Floats
    tokens: npt.NDArray[np.int64]

    def mean(self, values: Floats) -> Floats:
        """Mean over predictions of ``values`` (contexts, strengths) per token: contexts count by their length."""
        return np.asarray(self.tokens @ values / self.tokens.sum())

    def resampled(self, values: Floats, chosen: npt.NDArray[np.int64]) -> Floats:
        """The same for each resample of contexts, ``chosen`` (resamples, contexts): (resamples, strengths)."""
        weight = self.tokens[chosen].astype(np.float64)
        return np.asarray(np.einsum("rc,rcs->rs", weight, values[chosen]) / weight.sum(axis=1, keepdims=True))


class NeutralText:
    """Neutral text on which an intervention's damage is measured, again and again.

    Where a prompt's tokens are changed (placement ``all``) every token but special ones is, and every prediction counts.
    For ``last`` and ``answer`` the first half of each context plays the prompt: its last token is changed, or that token
    and all behind it, and what is predicted from there on counts.

    Attributes:
        contexts: that hold a prediction which counts;  tokens: predictions that count, of all.
        size: tokens that one pass over all of it runs on.

    Args:
        text: packed contexts (`engine.text.tokens.contexts`).
        placement: of the intervention.

    Raises:
        SteeringError: no prediction of the text counts.
    """

    def __init__(self, model: OpenModel, text: Contexts, placement: Placement) -> None:
        self._model = model
        ids, counted = torch.from_numpy(np.array(text.ids, dtype=np.int64)), torch.from_numpy(np.array(text.counted))
        changed, counts = _places(counted, placement)
        kept = counts.any(dim=1)
        self._ids, self._changed, self._counts = ids[kept], changed[kept], counts[kept]
        self.contexts, self.tokens = int(kept.sum()), int(counts.sum())
        if not self.contexts:
            raise SteeringError("No prediction of the neutral text counts; take more tokens of it, or another text.")
        step = max(1, min(TOGETHER, LOGITS // int(model.facts.vocabulary)) // self._ids.shape[1])
        self._parts = [slice(start, start + step) for start in range(0, self.contexts, step)]
        self._clean: list[Tensor] | None = None
        self._passes: dict[str, list[Repeated]] = {}
        self.size = self._ids.numel()

    def damage(
        self,
        intervention: Intervention,
        strengths: Floats,
        *,
        hook: str,
        heard: Callable[[int], None] = lambda tokens: None,
        done: Callable[[int, float], None] = lambda index, ce: None,
    ) -> Damage:
        """Added cross entropy and KL of each context at each strength.

        Args:
            heard: called after each batch with its tokens; may wait, or raise to stop.
            done: called after each strength with its index and the mean added cross entropy.

        Raises:
            ModelError: there is no such hook point, or it has no vector per token.
            SteeringError: the intervention drives the model to what is not finite.
        """
        shape = (self.contexts, len(strengths))
        ce, kl, tokens = np.zeros(shape), np.zeros(shape), self._counts.sum(dim=1).numpy()
        clean = np.concatenate([self._cross_entropy(part, self._clean_at(part, hook, heard)) for part in self._parts])
        for index, strength in enumerate(strengths.tolist()):
            for part in self._parts:
                where = self._changed[part].to(self._model.device)
                edits = edit_at(intervention, strength, hook, where)
                if not edits:
                    continue
                nll, apart = self._compared(part, hook, edits, self._clean_at(part, hook, heard))
                ce[part, index], kl[part, index] = self._means(part, nll), self._means(part, apart)
                heard(self._ids[part].numel())
            if edits:
                ce[:, index] -= clean
            if not np.isfinite(ce[:, index]).all():
                raise SteeringError(
                    f"At strength {strength:g} the model's predictions of the neutral text are not finite; use smaller "
                    "strengths."
                )
            done(index, float(tokens @ ce[:, index] / tokens.sum()))
        return Damage(np.asarray(strengths, dtype=np.float64), ce, kl, clean, tokens)

    def _clean_at(self, part: slice, hook: str, heard: Callable[[int], None]) -> Tensor:
        """The clean model's log-probabilities at predictions that count, kept where there is room for all of them."""
        if self._clean is not None:
            return self._clean[self._parts.index(part)]
        whole = self.tokens * int(self._model.facts.vocabulary) * 4
        if whole > KEPT:
            return self._log_probabilities(part, hook, [])
        self._clean = []
        for each in self._parts:
            self._clean.append(self._log_probabilities(each, hook, []))
            heard(self._ids[each].numel())
        return self._clean[self._parts.index(part)]

    def _log_probabilities(self, part: slice, hook: str, edits: list[Edit]) -> Tensor:
        """(predictions that count, vocabulary) float32, context after context."""
        return torch.cat(list(self._in_pieces(part, hook, edits)))

    def _in_pieces(self, part: slice, hook: str, edits: list[Edit]) -> Iterator[Tensor]:
        """The same piece by piece: one huge array after another would cost more than the sums in them."""
        logits, counts = self._repeated(hook)[self._parts.index(part)].logits(edits), self._counts[part]
        counts = counts[:, counts.any(dim=0)].to(logits.device)
        step = max(1, PIECE // max(logits[0].numel(), 1))
        for start in range(0, len(logits), step):
            piece = slice(start, start + step)
            # log_softmax and not log(softmax): the latter is not a number where a probability underflows.
            yield torch.log_softmax(logits[piece][counts[piece]], dim=-1)

    def _compared(self, part: slice, hook: str, edits: list[Edit], clean: Tensor) -> tuple[Tensor, Tensor]:
        """−log p(next token) and KL(clean ‖ steered) of each prediction that counts, (predictions,) nats."""
        answers, done = self._answers(part).to(clean.device), 0
        nll, apart = torch.empty(len(clean)), torch.empty(len(clean))
        for steered in self._in_pieces(part, hook, edits):
            here = slice(done, done + len(steered))
            nll[here] = -steered.gather(1, answers[here, None]).squeeze(1).cpu()
            # Weights of 0 times an infinite difference would be no number.
            apart[here] = torch.linalg.vecdot(clean[here].exp(), (clean[here] - steered).nan_to_num_(0.0)).cpu()
            done += len(steered)
        return nll, apart

    def _answers(self, part: slice) -> Tensor:
        return self._ids[part][:, 1:][self._counts[part]]

    def _repeated(self, hook: str) -> list[Repeated]:
        """Passes over each part, with logits of the positions from which a prediction counts in one of its contexts."""
        if hook not in self._passes:
            self._passes.clear()
            keep = held(self._model, hook, self.size)
            self._passes[hook] = [
                Repeated(
                    self._model, self._ids[part], hook, at=self._counts[part].any(dim=0).nonzero().flatten(), keep=keep
                )
                for part in self._parts
            ]
        return self._passes[hook]

    def _cross_entropy(self, part: slice, log_probabilities: Tensor) -> Floats:
        answers = self._answers(part).to(log_probabilities.device)
        return self._means(part, -log_probabilities.gather(1, answers[:, None]).squeeze(1))

    def _means(self, part: slice, values: Tensor) -> Floats:
        """Means by context, float64, of ``values`` (predictions that count,)."""
        counts = self._counts[part]
        table = torch.zeros(counts.shape, dtype=torch.float64)
        table[counts] = values.double().cpu()
        return np.asarray((table.sum(dim=1) / counts.sum(dim=1)).numpy())


def _places(counted: Tensor, placement: Placement) -> tuple[Tensor, Tensor]:
    """Positions that are changed (contexts, position), and predictions that count (contexts, position − 1)."""
    predicts = counted[:, :-1] & counted[:, 1:]
    if placement == "all":
        return counted, predicts
    at = torch.arange(counted.shape[1])[None]
    middle = counted.shape[1] // 2
    changed = (at == middle) if placement == "last" else (at >= middle)
    return changed & counted, predicts & (at[:, :-1] >= middle)


@dataclass(frozen=True)
class Matched:
    """Success of a method at the strength whose damage is ``ce``. Intervals: 95 % bootstrap over samples and contexts.

    Attributes:
        ce: added cross entropy at which it is read off, nats per token: what was asked for, or where that is not
            reached within the range, what the last strength has.
        reached: whether it was.
        strength: where that is, by lines between neighbouring strengths;  strength_interval: its interval.
        shift: mean of m_i(λ) − m_i without intervention, nats;  shift_interval: its interval.
        share: of samples that succeed (m_i(λ) > 0, or the target is the likeliest);  share_interval: its interval.
    """

    ce: float
    reached: bool
    strength: float
    strength_interval: Interval
    shift: float
    shift_interval: Interval
    share: float
    share_interval: Interval


def matched(
    values: Floats,
    success: Bools,
    damage: Damage,
    random: np.random.Generator,
    *,
    clean: Floats | None = None,
    ce: float = MATCHED,
    resamples: int = 1_000,
) -> Matched:
    """Success at the first strength above 0 at which the added cross entropy reaches ``ce`` nats per token.

    Args:
        values: (samples, strengths) propensities.
        success: (samples, strengths) whether a sample succeeds.
        damage: of the same strengths.
        clean: (samples,) propensities without intervention, for one that changes something at strength 0, too; None: those
            at strength 0.

    Raises:
        SteeringError: shapes differ, or no strength is above 0.
    """
    at = damage.strengths
    if values.shape != success.shape or values.shape[1] != len(at):
        raise SteeringError(
            f"Propensities {values.shape} and damage at {len(at)} strengths do not fit; measure both at the same ones."
        )
    if not (at > 0).any():
        raise SteeringError("No strength is above 0, so nothing can be matched; use a range up to 1.5 for example.")
    zero = int(np.argmin(np.abs(at)))
    before = values[:, zero] if clean is None else clean
    shifts, shares = values - before[:, None], success.astype(np.float64)
    strength, reached = _reaching(at, damage.mean(damage.ce), zero, ce)

    n, contexts = len(values), len(damage.ce)
    texts = damage.resampled(damage.ce, random.integers(0, contexts, (resamples, contexts)))
    draws = np.empty((resamples, 3))
    for number, curve in enumerate(texts):
        chosen = random.integers(0, n, n)
        there, _ = _reaching(at, curve, zero, ce)
        draws[number] = (
            there, np.interp(there, at, shifts[chosen].mean(axis=0)), np.interp(there, at, shares[chosen].mean(axis=0)),
        )  # fmt: skip
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    intervals = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return Matched(
        float(np.interp(strength, at, damage.mean(damage.ce))), reached, strength, intervals[0],
        float(np.interp(strength, at, shifts.mean(axis=0))), intervals[1],
        float(np.interp(strength, at, shares.mean(axis=0))), intervals[2],
    )  # fmt: skip


def _reaching(at: Floats, curve: Floats, zero: int, wanted: float) -> tuple[float, bool]:
    """The first strength from 0 upward at which ``curve`` reaches ``wanted``; the last one where it never does."""
    for index in range(zero, len(at) - 1):
        low, high = float(curve[index]), float(curve[index + 1])
        if high >= wanted:
            share = (wanted - low) / (high - low) if high > low else 0.0
            return float(at[index] + max(share, 0.0) * (at[index + 1] - at[index])), True
    return float(at[-1]), False
