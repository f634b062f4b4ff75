"""Sums that a model is asked: prompts "a+b=", their answers in one token, and which of them it gets right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.geometry.errors import GeometryError
from engine.models.editing import edited_logits
from engine.text.numbers import check_template, number_prompts

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
BATCH = 32  # prompts in one forward pass, between which a run can be stopped
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

    def where(self, rows: Array) -> Tensor:
        """(rows, length) bool: the token of a."""
        return torch.from_numpy(np.arange(self.ids.shape[1]) == self.position[rows, None])


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
    second = np.sort(random.choice(values, min(others, len(values)), replace=False))
    pairs = [(int(a), int(b)) for a in values for b in second]
    bos = model.bos if prepend_bos else None
    found = number_prompts(model.tokenizer, pairs, template, bos=bos, single=single)
    ends = number_prompts(model.tokenizer, pairs, template, bos=bos, single=single, place="end").positions
    name, combine = operation(template)
    answer = combine(found.values, found.others)
    glued = [_tokens(model, found.texts, answer, glue) for glue in ("", " ")]
    best: Sums | None = None
    for token in glued:
        kept = np.flatnonzero(token >= 0)
        if not len(kept):
            continue
        logits = last_logits(model, found.ids[kept], ends[kept], run=run)
        logit, log_probability, right = answered(logits, token[kept])
        one = Sums(
            found.values[kept], found.others[kept], answer[kept], found.ids[kept], found.positions[kept], ends[kept],
            token[kept], logit, log_probability, right, len(pairs), name,
        )  # fmt: skip
        if best is None or one.right.sum() > best.right.sum():
            best = one
    if best is None:
        raise GeometryError(
            f"No answer to “{template}” is one token of {model.facts.title}; take smaller numbers or another model."
        )
    return best


def _tokens(model: OpenModel, texts: tuple[str, ...], answers: Array, glue: str) -> Array:
    """The token that follows each text when its answer is written behind ``glue``; -1 where that is not one token."""
    known: dict[int, int] = {}
    for text, answer in zip(texts, answers.tolist(), strict=True):
        if answer not in known:
            before = model.encode(text, prepend_bos=False)
            whole = model.encode(f"{text}{glue}{answer}", prepend_bos=False)
            fits = len(whole) == len(before) + 1 and whole[:-1] == before and whole[-1] != model.tokenizer.unk_token_id
            known[answer] = whole[-1] if fits else -1
    return np.array([known[answer] for answer in answers.tolist()], dtype=np.int64)


def last_logits(
    model: OpenModel,
    ids: Array,
    ends: Array,
    *,
    hook: str = "",
    change: Callable[[Array], Callable[[Tensor], Tensor]] | None = None,
    where: Callable[[Array], Tensor] | None = None,
    run: Run | None = None,
) -> Tensor:
    """Logits (rows, vocabulary) float32 at ``ends``, with the activations of ``hook`` changed where ``change`` is given.

    ``change`` gives for the rows of a batch what is done to their activations at ``where``.
    """
    from engine.models.editing import Edit

    parts = []
    for first in range(0, len(ids), BATCH):
        if run is not None:
            run.point()
        rows = np.arange(first, min(first + BATCH, len(ids)))
        edits = [] if change is None or where is None else [Edit(hook, change(rows), where(rows).to(model.device))]
        longest = int(ends[rows].max()) + 1  # what follows is padding
        if edits and edits[0].where is not None:
            edits = [Edit(hook, edits[0].change, edits[0].where[:, :longest])]
        logits = edited_logits(model, torch.from_numpy(ids[rows, :longest]), edits)
        parts.append(logits[torch.arange(len(rows)), torch.from_numpy(ends[rows]).to(logits.device)].cpu())
    return torch.cat(parts)


def answered(logits: Tensor, token: Array) -> tuple[Array, Array, Array]:
    """Logit and log probability (rows,) float64 of ``token`` (rows,), and whether it has the highest logit."""
    chosen = torch.from_numpy(token)[:, None]
    found = logits.double()
    logit, log_probability = (part.gather(1, chosen)[:, 0].numpy() for part in (found, found.log_softmax(-1)))
    return logit, log_probability, (logits.argmax(-1) == chosen[:, 0]).numpy()
