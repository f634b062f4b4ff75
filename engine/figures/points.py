"""What can be drawn of curves, points and samples: finite values, bins, and turned 3-D points. Free of Qt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Histogram

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]
MOST_BINS = 120
CAMERA = (-60.0, 25.0)  # azimuth and elevation in degrees that 3-D points are first seen from


def drawable(values: Array, log: bool) -> npt.NDArray[np.bool_]:
    """Which values can be drawn on the axis: finite ones, on a log axis those above zero."""
    values = np.asarray(values)
    good = np.isfinite(values)
    if log:
        with np.errstate(invalid="ignore"):
            good &= values > 0
    return good


def said_of_points(left_out: int, log: bool, what: str = "value") -> str:
    """A few words about values that cannot be drawn; "" where there are none."""
    if left_out == 0:
        return ""
    reason = "not finite or not above 0" if log else "not finite"
    return f"{left_out:,} {what if left_out == 1 else what + 's'} {reason}, left out"


@dataclass(frozen=True)
class Binned:
    """Counts (groups, bins) between ``edges`` (bins + 1,); ``left_out`` samples could not be placed."""

    edges: Floats
    counts: Floats
    left_out: int = 0


def binned(figure: Histogram) -> Binned:
    """The bins of a histogram: its own, or of its samples, shared by all groups, log-spaced on a log axis."""
    if figure.counts is not None and figure.edges is not None:
        return Binned(np.asarray(figure.edges, dtype=np.float64), np.asarray(figure.counts, dtype=np.float64))
    assert figure.samples is not None
    samples = np.asarray(figure.samples, dtype=np.float64)
    log = figure.x_axis.scale == "log"
    good = drawable(samples, log)
    # NaN pads groups of unequal size; only what stands before the padding counts as left out.
    lengths = [int(np.flatnonzero(~np.isnan(row))[-1]) + 1 if (~np.isnan(row)).any() else 0 for row in samples]
    left_out = sum(length - int(row[:length].sum()) for length, row in zip(lengths, good, strict=True))
    kept = samples[good]
    if kept.size == 0:
        return Binned(np.asarray([1.0, 10.0] if log else [0.0, 1.0]), np.zeros((samples.shape[0], 1)), left_out)
    scaled = np.log10(kept) if log else kept
    edges = _edges(scaled)
    if log:
        edges = 10.0**edges
        edges[0], edges[-1] = min(edges[0], kept.min()), max(edges[-1], kept.max())
    rows = [np.histogram(row[keep], bins=edges)[0] for row, keep in zip(samples, good, strict=True)]
    return Binned(edges, np.asarray(rows, dtype=np.float64), left_out)


def _edges(values: Floats) -> Floats:
    low, high = float(values.min()), float(values.max())
    if low == high:
        half = max(abs(low) * 0.01, 0.5)
        return np.asarray([low - half, high + half])
    spread = float(np.subtract(*np.percentile(values, [75, 25])))
    width = 2 * spread / values.size ** (1 / 3)  # Freedman and Diaconis 1981
    sturges = math.ceil(math.log2(values.size) + 1)
    count = max(sturges, math.ceil((high - low) / width)) if width > 0 else sturges
    return np.linspace(low, high, min(count, MOST_BINS) + 1)


def project(points: Array, azimuth: float, elevation: float) -> tuple[Floats, Floats]:
    """Orthographic view of points (n, 3), scaled to equal extent per axis.

    Args:
        points: (n, 3); each axis is centred and divided by its half extent first.
        azimuth: turn about the third axis, in degrees.
        elevation: height of the eye above the plane of the first two, in degrees.

    Returns:
        Screen positions (n, 2), up positive, and depth (n,), larger is nearer to the eye.
    """
    centre, half = extent(points)
    unit = (np.asarray(points, dtype=np.float64) - centre) / half
    turn = turning(azimuth, elevation)
    seen = unit @ turn.T
    return seen[:, :2], seen[:, 2]


def extent(points: Array) -> tuple[Floats, Floats]:
    """Centre (d,) and half extent (d,) of the finite points; half extents are never zero."""
    points = np.asarray(points, dtype=np.float64)
    whole = points[np.isfinite(points).all(axis=1)]
    if len(whole) == 0:
        return np.zeros(points.shape[1]), np.ones(points.shape[1])
    low, high = whole.min(axis=0), whole.max(axis=0)
    half = (high - low) / 2
    return (low + high) / 2, np.where(half > 0, half, 1.0)


def turning(azimuth: float, elevation: float) -> Floats:
    """The rotation (3, 3) whose rows are the screen's right, up and towards-the-eye directions."""
    a, e = math.radians(azimuth), math.radians(elevation)
    right = [-math.sin(a), math.cos(a), 0.0]
    up = [-math.sin(e) * math.cos(a), -math.sin(e) * math.sin(a), math.cos(e)]
    eye = [math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)]
    return np.asarray([right, up, eye])
