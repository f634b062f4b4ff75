"""Sums that a model is asked: prompts "a+b=", their answers in one token, and which of them it gets right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.geometry.errors import GeometryError
from engine.geometry.number_passes import passes
from engine.text.numbers import check_template, number_prompts

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
OTHERS = 25  # second numbers b, all asked with each a
TIMES = ("*", "×", "times", "·")


@dataclass(frozen=True)
class Sums:
    """Prompts with their answers, one row each.

    Attributes:
        a, b: the numbers; answer: their sum or product.
        ids: (rows, length) tokens, padded on the right; position: of the last token of a; end: of the prompt's last token.
        token: id of the answer, which is one token.
        logit, log_probability: of the answer without any edit, float64; right: whether no other token has a higher logit.
        asked: how many prompts there were before those whose answer is not one token were left out.
        operation: "a + b" or "a × b".
    """

    a: Array
    b: Array
    answer: Array
    ids: Array
    position: Array
    end: Array
    token: Array
    logit: Array
    log_probability: Array
    right: Array
    asked: int
    operation: str


def operation(template: str) -> tuple[str, Callable[[Array, Array], Array]]:
    """What a template asks for: a product where it has a sign of multiplication, else a sum."""
    if any(sign in template for sign in TIMES):
        return "a × b", np.multiply
    return "a + b", np.add


def ask(
    model: OpenModel,
    template: str,
    values: Array,
    random: np.random.Generator,
    *,
    others: int = OTHERS,
    prepend_bos: bool = True,
    single: bool = False,
    run: Run | None = None,
) -> Sums:
    """Ask ``model`` for a + b for every a of ``values`` with the same ``others`` of them, drawn by ``random``, as b.

    Args:
        template: prompt with {a} and {b} that ends where the answer begins; examples may stand before them.
        single: leave out values whose a is not one token.

    Raises:
        GeometryError: the template has no {b}, or no answer is one token.
        TextError: the template is wrong, or no number has tokens of its own in it.
    """
    if not check_template(template):
        raise GeometryError(f"The template “{template}” asks for no sum; give it a second number, as in {{a}}+{{b}}=.")
    name, combine = operation(template)
    known = [_Answers(model, glue) for glue in ("", " ")]
    second = _second(known, template, values, combine, random, others)
    pairs = [(int(a), int(b)) for a in values for b in second]
    bos = model.bos if prepend_bos else None
    found = number_prompts(model.tokenizer, pairs, template, bos=bos, single=single)
    ends = number_prompts(model.tokenizer, pairs, template, bos=bos, single=single, place="end").positions
    answer = combine(found.values, found.others)
    tokens = np.stack([one(found.texts, answer) for one in known])
    kept = np.flatnonzero((tokens >= 0).any(axis=0))
    if not len(kept):
        raise GeometryError(
            f"No answer to “{template}” is one token of {model.facts.title}; take smaller numbers or another model."
        )
    logit, log_probability = np.zeros((2, 2, len(kept)))
    right = np.zeros((2, len(kept)), bool)
    for rows, _, logits in passes(model, found.ids[kept], ends[kept], run=run):
        for number, token in enumerate(tokens[:, kept[rows]]):
            measured = answered(logits, np.maximum(token, 0))
            logit[number, rows], log_probability[number, rows], right[number, rows] = measured
        if run is not None:
            run.progress(int(rows[-1]) + 1, len(kept), "sums")
    right &= tokens[:, kept] >= 0
    best = int(right.sum(axis=1).argmax())
    there = np.flatnonzero(tokens[best, kept] >= 0)
    if not len(there):
        best, there = 1 - best, np.flatnonzero(tokens[1 - best, kept] >= 0)
    rows = kept[there]
    return Sums(
        found.values[rows], found.others[rows], answer[rows], found.ids[rows], found.positions[rows], ends[rows],
        tokens[best, rows], logit[best, there], log_probability[best, there], right[best, there], len(pairs), name,
    )  # fmt: skip


class _Answers:
    """The token that follows a text when its answer is written behind ``glue``; -1 where that is not one token."""

    def __init__(self, model: OpenModel, glue: str) -> None:
        self._model, self._glue = model, glue
        self._known: dict[int, int] = {}

    def __call__(self, texts: Sequence[str], answers: Array) -> Array:
        for text, answer in zip(texts, answers.tolist(), strict=True):
            if answer not in self._known:
                self._known[answer] = self._token(text, answer)
        return np.array([self._known[answer] for answer in answers.tolist()], dtype=np.int64)

    def _token(self, text: str, answer: int) -> int:
        before = self._model.encode(text, prepend_bos=False)
        whole = self._model.encode(f"{text}{self._glue}{answer}", prepend_bos=False)
        fits = len(whole) == len(before) + 1 and whole[:-1] == before
        return whole[-1] if fits and whole[-1] != self._model.tokenizer.unk_token_id else -1


def _second(
    known: Sequence[_Answers],
    template: str,
    values: Array,
    combine: Callable[[Array, Array], Array],
    random: np.random.Generator,
    others: int,
) -> Array:
    """Second numbers b, in order: of those that make answers of one token with any a, where there are such."""
    usable = []
    for b in values.tolist():
        texts = [template.format(a=a, b=b) for a in values.tolist()]
        answers = combine(values, np.full(len(values), b))
        usable.append(any((one(texts, answers) >= 0).any() for one in known))
    fit = values[usable] if any(usable) else values
    return np.sort(random.choice(fit, min(others, len(fit)), replace=False))


def answered(logits: Tensor, token: Array) -> tuple[Array, Array, Array]:
    """Logit and log probability (rows,) float64 of ``token`` (rows,), and whether it has the highest logit."""
    chosen = torch.from_numpy(token)[:, None]
    found = logits.double()
    logit, log_probability = (part.gather(1, chosen)[:, 0].numpy() for part in (found, found.log_softmax(-1)))
    return logit, log_probability, (logits.argmax(-1) == chosen[:, 0]).numpy()
