"""Thinning of curves to what a screen can show: the least and the largest value of each pixel column.

pyqtgraph's own peak mode loses a whole column to one NaN in it and bins by index, which empties the
left of a log axis; this one leaves NaN out of a column that has other values and bins by position.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
MARGIN = 0.5  # share of the visible range kept at each side, so that panning finds something


def is_sorted(x: Floats) -> bool:
    """Whether x never falls and has no NaN: only then can a curve be cut and thinned by position."""
    return bool(len(x) < 2 or np.all(x[1:] >= x[:-1]))


def reduced(x: Floats, y: Floats, view: tuple[float, float], columns: int) -> tuple[Floats, Floats]:
    """What has to be drawn of the curve (x, y) when ``view`` is seen ``columns`` pixels wide.

    Args:
        x, y: (n,), axis coordinates; y may hold NaN, which are gaps.
        view: the visible range of x.
        columns: width in pixels.

    Returns:
        At most two points for each column of the range and its margins; the curve itself where it is short.
    """
    low, high = min(view), max(view)
    if len(x) <= 4 * columns or columns < 1 or not high > low or not is_sorted(x):
        return x, y
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    first = max(int(np.searchsorted(x, low, "left")) - 1, 0)
    last = min(int(np.searchsorted(x, high, "right")) + 1, len(x))
    x, y = x[first:last], y[first:last]
    wide = round(columns * (1 + 2 * MARGIN))
    if len(x) <= 4 * wide:
        return x, y
    edges = np.linspace(low, high, wide + 1)[1:-1]
    starts = np.unique(np.concatenate([[0], np.searchsorted(x, edges, "left")]))
    starts = starts[starts < len(x)]
    bottom, top = np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)
    drawn_x, drawn_y = np.repeat(x[starts], 2), np.empty(2 * len(starts))
    # Keep the direction of the curve within a column, so that steep parts join up.
    rising = y[starts] <= y[np.append(starts[1:], len(y)) - 1]
    drawn_y[0::2] = np.where(rising, bottom, top)
    drawn_y[1::2] = np.where(rising, top, bottom)
    return drawn_x, drawn_y


def smoothed(y: Floats, window: int) -> Floats:
    """Mean of the last ``window`` finite values at each place; NaN where there is none.

    A causal mean: the newest point of a running experiment is an average of what is there.
    """
    good = np.isfinite(y)
    total = np.concatenate([[0.0], np.cumsum(np.where(good, y, 0.0))])
    count = np.concatenate([[0], np.cumsum(good)])
    first = np.maximum(np.arange(1, len(y) + 1) - window, 0)
    here = np.arange(1, len(y) + 1)
    seen = count[here] - count[first]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.where(seen > 0, (total[here] - total[first]) / seen, np.nan)
    return mean


def lonely(y: Floats) -> npt.NDArray[np.bool_]:
    """Finite values with a gap on both sides: a line does not show them."""
    good = np.isfinite(y)
    padded = np.concatenate([[False], good, [False]])
    alone: npt.NDArray[np.bool_] = good & ~padded[:-2] & ~padded[2:]
    return alone
