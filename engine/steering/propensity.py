"""Propensity: how much likelier a model finds one completion than another, with an intervention in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.editing import Edit
from engine.models.repeated import Repeated
from engine.steering.choices import Placement
from engine.steering.errors import SteeringError
from engine.steering.interventions import Intervention, idle
from engine.steering.rows import Rows, encode_rows

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Heard: TypeAlias = Callable[[int], None]

TOGETHER = 2_048  # tokens in one forward pass
LOGITS = 1 << 24  # logits of one forward pass held at once (64 MB)
HELD = 1 << 28  # bytes of what blocks below the hook point gave that are held on to


def edit_at(intervention: Intervention, strength: float, hook: str, where: Tensor | None) -> list[Edit]:
    """The edit of ``intervention`` at ``strength``; none where it changes nothing."""
    if idle(intervention, strength):
        return []
    return [Edit(hook, partial(_changed, intervention=intervention, strength=strength), where)]


def _changed(x: Tensor, *, intervention: Intervention, strength: float) -> Tensor:
    return intervention(x, strength)


class Questions:
    """Completions of prompts whose log-probabilities are asked for again and again, under one edit after another.

    The last token of a completion is predicted and never read, so it is left out of what the model runs on: completions
    of one token that follow the same prompt share a single pass.

    Attributes:
        tokens: (rows, completions) int64 tokens of each completion; 0 where a row has fewer completions than others.
        size: tokens that one pass over all questions runs on, padding included.

    Args:
        prompts: of each row.
        completions: of each row, at least one.
        prepend_bos: put BOS before each prompt.

    Raises:
        SteeringError: there are no rows, a completion has no token, or a row is longer than the model reads.
    """

    def __init__(
        self, model: OpenModel, prompts: Sequence[str], completions: Sequence[Sequence[str]], *, prepend_bos: bool
    ) -> None:
        self._model = model
        flat = [(row, column) for row, words in enumerate(completions) for column in range(len(words))]
        rows = encode_rows(
            model, [prompts[row] for row, _ in flat], [completions[row][column] for row, column in flat],
            prepend_bos=prepend_bos,
        )  # fmt: skip
        shape = (len(prompts), max(len(words) for words in completions))
        self._cells = np.array(flat, dtype=np.int64)
        self.tokens = np.zeros(shape, dtype=np.int64)
        self.tokens[self._cells[:, 0], self._cells[:, 1]] = (rows.lengths - rows.starts).numpy()
        self._inputs, self._asked = _shared(rows)
        self._batches = _batches(self._inputs.lengths, int(model.facts.vocabulary))
        self._passes: dict[str, list[tuple[Repeated, Tensor]]] = {}
        self.size = sum(len(part) * int(self._inputs.lengths[part].max()) for part in self._batches)

    def log_probabilities(
        self,
        hook: str,
        placement: Placement,
        intervention: Intervention | None = None,
        strength: float = 0.0,
        *,
        heard: Heard = lambda tokens: None,
    ) -> Floats:
        """Log-probability of each completion after its prompt, nats, summed over its tokens; (rows, completions).

        NaN where a row has fewer completions than others. Padding and batches change it by rounding only.

        Args:
            hook: where ``intervention`` acts;  placement: on which tokens. Without one the clean model is asked.
            strength: of the intervention; where it is idle the clean model is asked.
            heard: called after each batch with its tokens; may wait, or raise to stop.

        Raises:
            ModelError: there is no such hook point, or it has no vector per token.
        """
        found = np.full(self.tokens.shape, np.nan)
        found[self._cells[:, 0], self._cells[:, 1]] = 0.0
        where = self._inputs.where(placement, bos=self._model.bos)
        for part, (passes, column_of) in zip(self._batches, self._repeated(hook), strict=True):
            longest = int(self._inputs.lengths[part].max())
            edits: list[Edit] = []
            if intervention is not None:
                edits = edit_at(intervention, strength, hook, where[part, :longest].to(self._model.device))
            logits = passes.logits(edits)
            for place, number in enumerate(part.tolist()):
                for cell, first, answer in self._asked[number]:
                    row, column = self._cells[cell]
                    begin = int(column_of[first - 1])
                    found[row, column] = _summed(logits[place, begin : begin + len(answer)], answer)
            heard(len(part) * longest)
        return found

    def _repeated(self, hook: str) -> list[tuple[Repeated, Tensor]]:
        """Of each batch its passes, and by position (longest,) where in their logits it stands."""
        if hook not in self._passes:
            self._passes.clear()  # a sweep has one hook point; others' activations need not be held on to
            keep = held(self._model, hook, self.size)
            self._passes[hook] = [self._of_batch(part, hook, keep) for part in self._batches]
        return self._passes[hook]

    def _of_batch(self, part: Tensor, hook: str, keep: bool) -> tuple[Repeated, Tensor]:
        longest = int(self._inputs.lengths[part].max())
        wanted = torch.zeros(longest, dtype=torch.bool)
        for number in part.tolist():
            for _, first, answer in self._asked[number]:
                wanted[first - 1 : first - 1 + len(answer)] = True
        ids = self._inputs.ids[part, :longest]
        return Repeated(self._model, ids, hook, at=wanted.nonzero().flatten(), keep=keep), wanted.cumsum(0) - 1


def held(model: OpenModel, hook: str, tokens: int) -> bool:
    """Whether what blocks below ``hook`` give for so many tokens fits into `HELD`."""
    return tokens * max(model.check_hook(hook), model.facts.d_model) * 4 <= HELD


def _summed(logits: Tensor, answer: Tensor) -> float:
    """Log-probability of tokens (k,) under logits (k, vocabulary), in float64 after the normaliser."""
    chosen = logits.gather(1, answer.to(logits.device)[:, None]).squeeze(1)
    return float((chosen.double() - logits.logsumexp(dim=1).double()).sum())


_Asked: TypeAlias = list[list[tuple[int, int, Tensor]]]


def _shared(rows: Rows) -> tuple[Rows, _Asked]:
    """What has to be run, each once, and by input which rows of ``rows`` ask for which tokens from where on."""
    index: dict[tuple[int, ...], int] = {}
    heads: list[Tensor] = []
    starts: list[int] = []
    asked: _Asked = []
    for cell, (ids, length, start) in enumerate(
        zip(rows.ids, rows.lengths.tolist(), rows.starts.tolist(), strict=True)
    ):
        head = ids[: length - 1]
        number = index.setdefault((start, *head.tolist()), len(heads))
        if number == len(heads):
            heads.append(head)
            starts.append(start)
            asked.append([])
        asked[number].append((cell, start, ids[start:length]))
    lengths = torch.tensor([len(head) for head in heads])
    inputs = torch.nn.utils.rnn.pad_sequence(heads, batch_first=True)
    return Rows(inputs, lengths, torch.tensor(starts)), asked


def _batches(lengths: Tensor, vocabulary: int) -> list[Tensor]:
    """Inputs of like length together, as many as fit: (inputs,) int64 each."""
    most = min(TOGETHER, LOGITS // vocabulary)
    parts: list[list[int]] = [[]]
    for number in torch.argsort(lengths, stable=True).tolist():
        if parts[-1] and (len(parts[-1]) + 1) * int(lengths[number]) > most:
            parts.append([])
        parts[-1].append(number)
    return [torch.tensor(part) for part in parts]


@dataclass(frozen=True, eq=False)
class Propensities:
    """Log-probabilities of both completions of each sample at each strength.

    Attributes:
        strengths: (strengths,).
        positive, negative: (samples, strengths) nats, summed over the completion's tokens.
        tokens: (samples, 2) tokens of the positive and of the negative completion.
        success: (samples, strengths) bool, whether the positive completion is the likeliest of all classes' answers;
            None without classes.
    """

    strengths: Floats
    positive: Floats
    negative: Floats
    tokens: Counts
    success: npt.NDArray[np.bool_] | None = None

    @property
    def values(self) -> Floats:
        """m_i(λ) = log p(positive) − log p(negative), nats; (samples, strengths)."""
        return self.positive - self.negative

    @property
    def normalised(self) -> Floats:
        """The same with each log-probability divided by its number of tokens; nats per token."""
        return self.positive / self.tokens[:, :1] - self.negative / self.tokens[:, 1:]


def gathered(found: Sequence[Floats], strengths: Floats, tokens: Counts) -> Propensities:
    """`Questions.log_probabilities` at each strength (samples, answers) as propensities.

    Column 0 is the positive completion, column 1 the negative one; further columns are the other classes' answers.

    Raises:
        SteeringError: there are fewer than two answers per sample.
    """
    table = np.stack(found, axis=2)
    if table.shape[1] < 2:
        raise SteeringError("A propensity compares two completions; give each row a positive and a negative one.")
    success = None
    if table.shape[1] > 2:
        success = np.asarray(np.nanargmax(np.where(np.isnan(table), -np.inf, table), axis=1) == 0)
    return Propensities(np.asarray(strengths, dtype=np.float64), table[:, 0], table[:, 1], tokens[:, :2], success)


def propensities(
    questions: Questions,
    intervention: Intervention,
    strengths: Floats,
    *,
    hook: str,
    placement: Placement,
    clean: Floats | None = None,
    heard: Heard = lambda tokens: None,
    done: Callable[[int, Floats], None] = lambda index, found: None,
) -> Propensities:
    """Propensities of all samples at all strengths, in their order.

    Args:
        questions: positive, negative and further answers of each sample.
        clean: the log-probabilities without intervention, where they are known already.
        heard: called after each batch with its tokens; may wait, or raise to stop.
        done: called after each strength with its index and log-probabilities (samples, answers).
    """
    found: list[Floats] = []
    for index, strength in enumerate(strengths.tolist()):
        if clean is not None and idle(intervention, strength):
            found.append(clean)
        else:
            found.append(questions.log_probabilities(hook, placement, intervention, strength, heard=heard))
        done(index, found[index])
    return gathered(found, strengths, questions.tokens)
