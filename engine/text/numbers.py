"""Numbers in a model's vocabulary: which are one token, prompts with a number in them, and where it ends.

Free of torch.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.text.errors import TextError

Array: TypeAlias = npt.NDArray[Any]
Place: TypeAlias = Literal["number", "end"]
FIELDS = ("a", "b")


@dataclass(frozen=True)
class NumberTokens:
    """Whole numbers that are a single token.

    Attributes:
        values: (n,) in order.
        ids: (n,) their tokens.
        spaced: whether the token has the space before the number in it.
        asked: how many numbers were looked at, from 0 on.
    """

    values: Array
    ids: Array
    spaced: bool
    asked: int

    @property
    def dropped(self) -> int:
        """How many numbers take several tokens or are not in the vocabulary."""
        return self.asked - len(self.values)


def number_tokens(tokenizer: Any, largest: int) -> NumberTokens:
    """The numbers 0 to ``largest`` that are one token: bare or with a leading space, whichever has more of them."""
    bare, spaced = (_single(tokenizer, largest, space) for space in (False, True))
    return spaced if len(spaced.values) > len(bare.values) else bare


def _single(tokenizer: Any, largest: int, spaced: bool) -> NumberTokens:
    values, ids = [], []
    for value in range(largest + 1):
        found = tokenizer.encode(f" {value}" if spaced else str(value), add_special_tokens=False)
        if len(found) == 1 and _reads(tokenizer, found, value):
            values.append(value)
            ids.append(int(found[0]))
    return NumberTokens(np.array(values, dtype=np.int64), np.array(ids, dtype=np.int64), spaced, largest + 1)


def _reads(tokenizer: Any, ids: Sequence[int], value: int) -> bool:
    """Whether tokens are that number, written out: an unknown token is not."""
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        return False
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)).replace(" ", "") == str(value)


def whole_hundreds(values: Array) -> Array:
    """``values`` cut to a multiple of 100 of them where they run from 0 without a gap and there are so many.

    Periods such as 10 and 100 then lie on frequencies of a spectrum and not between two of them.
    """
    ordered = np.sort(values)
    if len(ordered) >= 100 and ordered[0] == 0 and ordered[-1] == len(ordered) - 1:
        return ordered[: len(ordered) // 100 * 100]
    return ordered


@dataclass(frozen=True)
class NumberPrompts:
    """Prompts with a number each.

    Attributes:
        values: (rows,) the number a of each prompt.
        others: (rows,) the number b; -1 where the template has none.
        ids: (rows, length) tokens, padded on the right.
        positions: (rows,) where activations are read.
        parts: (rows,) tokens that the number a takes.
        texts: the prompts as written.
        dropped: values left out because their number is not written in tokens as asked for.
    """

    values: Array
    others: Array
    ids: Array
    positions: Array
    parts: Array
    texts: tuple[str, ...]
    dropped: tuple[int, ...]


def check_template(template: str) -> bool:
    """Whether ``template`` has {b}.

    Raises:
        TextError: it has no {a}, has one of them twice, or holds anything else in braces.
    """
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as problem:
        raise TextError(f"The template “{template}” cannot be read ({problem}); write {{a}} or {{a}}+{{b}}=.") from None
    if names.count("a") != 1 or names.count("b") > 1 or set(names) - set(FIELDS):
        raise TextError(
            f"The template “{template}” needs {{a}} once, at most one {{b}}, and no other braces; write {{a}} or {{a}}+{{b}}=."
        )
    return "b" in names


def number_prompts(
    tokenizer: Any,
    pairs: Sequence[tuple[int, int]],
    template: str = "{a}",
    *,
    bos: int | None = None,
    place: Place = "number",
    single: bool = True,
) -> NumberPrompts:
    """Prompts of ``template`` for ``pairs`` (a, b), and where to read each.

    Args:
        bos: token put in front; None for none.
        place: "number" reads at the last token of a, "end" at the last token of the prompt.
        single: take only values whose a is one token there; else it may have several.

    Raises:
        TextError: the template is wrong (`check_template`), or no value is left.
    """
    check_template(template)
    before = template[: template.index("{a}")]
    rows, dropped = [], set()
    for a, b in pairs:
        text = template.format(a=a, b=b)
        start = len(before.format(b=b))
        found = _placed(tokenizer, text, start, start + len(str(a)), a)
        if found is None or (single and found[2] != 1):
            dropped.add(a)
            continue
        ids, last, parts = found
        rows.append((a, b, ids, last if place == "number" else len(ids) - 1, parts, text))
    rows = [row for row in rows if row[0] not in dropped]  # a value is there in all its prompts or in none
    if not rows:
        what = "one token" if single else "tokens of their own"
        raise TextError(
            f"None of {len({a for a, _ in pairs})} numbers is written in {what} in “{template}”; let numbers be digits in "
            "several tokens, or change the template."
        )
    front = [] if bos is None else [bos]
    length = max(len(row[2]) for row in rows) + len(front)
    padded = np.zeros((len(rows), length), dtype=np.int64)
    for number, row in enumerate(rows):
        whole = [*front, *row[2]]
        padded[number, : len(whole)] = whole
        padded[number, len(whole) :] = whole[-1]
    numbers, others, _, positions, taken, texts = zip(*rows, strict=True)
    return NumberPrompts(
        np.array(numbers), np.array(others), padded, np.array(positions) + len(front), np.array(taken), texts,
        tuple(sorted(dropped)),
    )  # fmt: skip


def _placed(tokenizer: Any, text: str, start: int, end: int, value: int) -> tuple[list[int], int, int] | None:
    """Tokens of ``text``, the last one of the number at ``start`` … ``end``, how many it takes; None where it has no border."""

    def encoded(part: str) -> list[int]:
        return [int(token) for token in tokenizer.encode(part, add_special_tokens=False)]

    whole, front, upto = encoded(text), encoded(text[:start]), encoded(text[:end])
    if not upto or whole[: len(upto)] != upto:  # the number's end is no border between tokens
        return None
    shared = 0
    while shared < min(len(front), len(upto)) and front[shared] == upto[shared]:
        shared += 1
    if not _reads(tokenizer, upto[shared:], value):
        return None
    return whole, len(upto) - 1, len(upto) - shared
