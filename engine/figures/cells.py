"""Colours of maps: levels, indices into a table of colours, and what is missing. Free of Qt.

What is not finite is never turned into a number: `cell_indices` gives it an index of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.palette import COLOURS, Bytes, colour_map, palette, rgb

Array: TypeAlias = npt.NDArray[Any]
ROBUST = 0.5  # percent of cells at each end that may lie outside the levels
OUTLIER = 2.0  # clip only where the extremes stretch the range by more than this factor
SAMPLE = 20_000  # values looked at for percentiles


@dataclass(frozen=True)
class Levels:
    """The values drawn in the first and the last colour; how many cells lie beyond and are not finite.

    With ``log`` the colours go by the logarithm, and values of zero or less count as missing.
    """

    low: float
    high: float
    below: int = 0
    above: int = 0
    missing: int = 0
    log: bool = False


def levels(
    values: Array, *, diverging: bool = False, log: bool = False, given: tuple[float, float] | None = None
) -> Levels:
    """The range of colours for ``values``: all of it, or robust percentiles where a few cells would flatten the rest.

    Diverging ranges are symmetric about zero. Where nothing is finite the range is 0 to 1. A figure that
    says its levels itself passes them as ``given``.
    """
    if given is not None:
        return _given_levels(values, given, diverging, log)
    kept, missing = _drawable(values, log)
    if kept.size == 0:
        return Levels(-1.0 if diverging else 1.0 if log else 0.0, 10.0 if log else 1.0, missing=missing, log=log)
    scaled = np.log10(kept.astype(np.float64)) if log else kept
    least, most = float(scaled.min()), float(scaled.max())
    few = scaled[:: max(1, scaled.size // SAMPLE)].astype(np.float64)
    if diverging:
        largest = max(abs(least), abs(most))
        robust = float(np.percentile(np.abs(few), 100 - ROBUST))
        last = robust if 0 < robust * OUTLIER < largest else largest
        first = -last
    else:
        low, high = (float(edge) for edge in np.percentile(few, [ROBUST, 100 - ROBUST]))
        clipped = high > low and most - least > OUTLIER * (high - low)
        first, last = (low, high) if clipped else (least, most)
    if last <= first:
        room = max(abs(first) * 0.01, 1e-12) if first else 1.0
        first, last = (first, last + room) if not diverging else (-room, room)
    below = int(np.count_nonzero(scaled < first)) if least < first else 0
    above = int(np.count_nonzero(scaled > last)) if most > last else 0
    if log:
        first, last = 10.0**first, 10.0**last
    return Levels(first, last, below, above, missing, log)


def _given_levels(values: Array, given: tuple[float, float], diverging: bool, log: bool) -> Levels:
    kept, missing = _drawable(values, log)
    low, high = given
    if diverging:
        high = max(abs(low), abs(high))
        low = -high
    if log and low <= 0:  # a level that has no logarithm: start at the least value that has one
        low = min(float(kept.min()), high / 10) if kept.size and high > 0 else 1.0
        high = max(high, low * 10)
    return Levels(low, high, int(np.count_nonzero(kept < low)), int(np.count_nonzero(kept > high)), missing, log)


def _drawable(values: Array, log: bool) -> tuple[Array, int]:
    """The values that have a colour, flat and in their own dtype, and how many have none."""
    flat = np.asarray(values).ravel()
    if flat.dtype.kind != "f":
        flat = flat.astype(np.float64)
    good = np.isfinite(flat)
    if log:
        with np.errstate(invalid="ignore"):
            good &= flat > 0
    missing = int(flat.size - np.count_nonzero(good))
    return (flat[good] if missing else flat), missing


def whole_levels(values: Array, *, diverging: bool = False, log: bool = False) -> Levels:
    """`levels` without leaving anything out: from the least to the largest finite value."""
    found = levels(values, diverging=diverging, log=log)
    if not found.below and not found.above:
        return found
    good, _ = _drawable(values, log)
    low, high = float(good.min()), float(good.max())
    if diverging:
        high = max(abs(low), abs(high))
        low = -high
    return replace(found, low=low, high=high, below=0, above=0)


def cell_indices(values: Array, wanted: Levels) -> Bytes:
    """Index into `cell_table` of each value, same shape, uint8: 1–255 by value, 0 where it is not finite."""
    values = np.asarray(values)
    work: npt.NDArray[np.floating[Any]] = values.astype(
        np.float32 if values.dtype.itemsize <= 4 else np.float64, copy=True
    )
    low, high = wanted.low, wanted.high
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if wanted.log:
            np.log10(work, out=work)
            low, high = math.log10(low), math.log10(high)
        bad = ~np.isfinite(work)
        work -= low
        work *= 254.0 / (high - low)
        work += 1.5
        np.clip(work, 1, 255, out=work)
        work[bad] = 0
    return work.astype(np.uint8)


def cell_table(theme: str, diverging: bool) -> Bytes:
    """Colours (256, 3) uint8 for `cell_indices`; entry 0 is the colour of what is missing."""
    missing = np.asarray([rgb(palette(theme).missing)], dtype=np.uint8)
    table: Bytes = np.concatenate([missing, colour_map(theme, diverging, COLOURS - 1)])
    return table


def said_of_cells(found: Levels) -> str:
    """What a map leaves out, in words; "" where it shows everything."""
    parts = []
    if found.missing:
        reason = "not finite or not above 0" if found.log else "not finite"
        parts.append(f"{found.missing:,} {'cell' if found.missing == 1 else 'cells'} {reason} (grey)")
    beyond = found.below + found.above
    if beyond:
        parts.append(f"{beyond:,} {'cell' if beyond == 1 else 'cells'} beyond the colour scale")
    return "; ".join(parts)


def is_diverging(pixels: Array) -> bool:
    """Pictures with values on both sides of zero are drawn symmetric about it."""
    if pixels.ndim == 4:
        return False
    finite = pixels[np.isfinite(pixels)]
    return bool(finite.size and finite.min() < 0 < finite.max())


def strip_top(value: Array | None, given: tuple[float, float] | None = None) -> float:
    """The value that gets the full shade: the larger of ``given``, else the largest finite magnitude, else 1."""
    if given is not None:
        return max(abs(given[0]), abs(given[1]))
    if value is None:
        return 1.0
    finite = np.abs(np.asarray(value, dtype=np.float64)[np.isfinite(value)])
    return float(finite.max()) or 1.0 if finite.size else 1.0
