"""How numbers, tokens and ticks are written, the same in the window and in exported figures. Free of Qt."""

from __future__ import annotations

import math
import unicodedata
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis

Array: TypeAlias = npt.NDArray[Any]


def number(value: float, digits: int = 4) -> str:
    """A number for people: ``digits`` significant digits at most, thousands separated, NaN and ∞ in words."""
    value = float(value)
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    size = abs(value)
    if value.is_integer() and size < 1e12:
        return f"{int(value):,}"
    if size >= 1e7 or size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{_bare(mantissa)}e{int(exponent)}"
    whole = math.floor(math.log10(size)) + 1
    return _bare(f"{value:,.{max(digits - whole, 0)}f}")


def _bare(text: str) -> str:
    """Without the zeros that end a fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def tick_number(value: float) -> str:
    """A number at a tick: at most three significant digits."""
    return number(value, 3)


def quantity(value: float, axis: Axis | None, digits: int = 4) -> str:
    """A number with its unit: ``0.1131 nats/token``."""
    unit = axis.unit if axis is not None else ""
    text = number(value, digits)
    return f"{text} {unit}" if unit else text


def named(value: float, axis: Axis | None, fallback: str = "value") -> str:
    """A number with its name and unit: ``Loss 0.1131 nats/token``."""
    label = axis.label if axis is not None and axis.label else fallback
    return f"{label} {quantity(value, axis)}"


_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "\u00a0": "⍽", "\u200b": "⎵"}


def visible_token(token: str) -> str:
    """A token with white space at its ends and control characters made visible: `` the\\n`` is ``␣the⏎``.

    Spaces between letters stay as they are: they can be seen.
    """
    if not token:
        return "(empty)"
    if token.isprintable() and token[0] != " " and token[-1] != " ":
        return token
    inner = len(token) - len(token.lstrip(" ")), len(token.rstrip(" "))
    shown = []
    for at, sign in enumerate(token):
        if sign in _SIGNS and not (sign == " " and inner[0] <= at < inner[1]):
            shown.append(_SIGNS[sign])
        elif not sign.isprintable() and unicodedata.category(sign) != "Zs":
            shown.append(f"\\u{ord(sign):04x}" if ord(sign) > 255 else f"\\x{ord(sign):02x}")
        else:
            shown.append(sign)
    return "".join(shown)


def shortened(text: str, room: int) -> str:
    """``text`` cut to ``room`` characters with an ellipsis at the end."""
    return text if len(text) <= room else text[: max(room - 1, 1)] + "…"


def width_in_cells(text: str) -> int:
    """Width in monospaced cells: wide East Asian characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def lines_of_tokens(tokens: Array, columns: int) -> list[list[tuple[int, int, str]]]:
    """Wrap tokens into lines of at most ``columns`` cells.

    Returns:
        For each line its tokens as (index, first cell, visible text). A line also ends after a
        token that ends in a newline. A token wider than a line is cut with an ellipsis.
    """
    lines: list[list[tuple[int, int, str]]] = [[]]
    at = 0
    for index, token in enumerate(tokens.tolist()):
        text = shortened(visible_token(token), columns)
        width = width_in_cells(text)
        if at and at + width > columns:
            lines.append([])
            at = 0
        lines[-1].append((index, at, text))
        at += width
        if token.endswith("\n"):
            lines.append([])
            at = 0
    if not lines[-1]:
        lines.pop()
    return lines


def tick_words(values: Array) -> list[str]:
    """The words at ticks: tokens made visible, numbers with few digits."""
    values = np.asarray(values)
    if values.dtype.kind in "OUS":
        return [visible_token(str(value)) for value in values.tolist()]
    return [tick_number(value) for value in values.tolist()]


def every(count: int, room: int) -> int:
    """The step (1, 2, 5, 10, …) at which ``count`` ticks thin out to at most ``room``."""
    step = 1
    while count / step > max(room, 1):
        digit = int(str(step)[0])
        step = step * 2 if digit in (1, 5) else step // 2 * 5
    return step


def cell_word(value: Any) -> str:
    """A table's cell as text: numbers with few digits, truth values in words, line ends made visible."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number):
        return number(float(value)) if not isinstance(value, int) else f"{value:,}"
    return visible_token(str(value)) if str(value) else ""
