"""Figures of superposition: arrows in the plane, dimensionality against sparsity, overlaps, norms, the table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Heatmap, Lines, Scatter, Table
from engine.toys.tms import measures

Array: TypeAlias = npt.NDArray[Any]
APART = 3.0  # between the centres of panels
ACROSS = 4  # panels side by side
PANELS = 16
MARKED = 41  # points of a curve from which on they are not marked one by one
POINTS = 40  # features of an instance that are drawn as points at most
SPARSITY = Axis("1 / (1 − S)", "", "log")


@dataclass(frozen=True)
class Shown:
    """What is drawn: one ReLU model and one linear model for each panel.

    Attributes:
        names: of the panels ("p = 0.05").
        density: (panels,) p = 1 − S.
        relu, linear: W (panels, hidden, features); ``bias`` (panels, features) of the ReLU models.
        kept: the panel that is kept as a model, and what it is called in all frames.
    """

    names: tuple[str, ...]
    density: Array
    relu: Array
    linear: Array
    bias: Array
    kept: int
    kept_name: str


def directions(shown: Shown) -> Lines:
    """Arrows from each panel's centre to the columns of W (2 hidden units), beside the unit circle."""
    count, _, features = shown.relu[:PANELS].shape
    across = min(ACROSS, count)
    centres = np.array([[n % across * APART, -(n // across) * APART] for n in range(count)])
    paths = []
    for feature in range(features):
        tips = np.asarray(shown.relu[:count, :, feature], dtype=np.float64)
        path = np.concatenate([_arrow(centre, tip) for centre, tip in zip(centres, tips, strict=True)])
        paths.append(np.tile(path, (math.ceil(MARKED / (5 * count)), 1)))
    paths.append(np.concatenate([_circle(centre) for centre in centres]))
    x, y = _padded(paths)
    order = "; ".join(shown.names[:count])
    return Lines(
        title="Feature directions",
        note=f"Columns of W in the plane of the two hidden units, one panel a model, row by row from the top left: {order}. "
        "Circles have radius 1 and lie 3 apart. "
        "Shown is the restart with the lowest loss at this step.",
        x_axis=Axis("First hidden unit"),
        y_axis=Axis("Second hidden unit"),
        series=(*(f"feature {n}" for n in range(features)), "norm 1"),
        x=x,
        y=y,
        equal=True,
    )


def _arrow(centre: Array, tip: Array) -> Array:
    length = float(np.hypot(*tip))
    back = tip * (1 - min(0.14, length) / length) if length else tip
    side = np.array([-tip[1], tip[0]]) / (length or 1) * min(0.07, length)
    points = np.stack([np.zeros(2), tip, back + side, tip, back - side]) + centre
    return np.concatenate([points, np.full((1, 2), np.nan)])


def _circle(centre: Array, reach: float = 1.35) -> Array:
    """A circle of radius 1 with four ticks outside, which also keep the frame of a movie still."""
    angles = np.linspace(0, 2 * np.pi, 25)
    lift = np.full((1, 2), np.nan)
    parts = [np.stack([np.cos(angles), np.sin(angles)], axis=1) + centre, lift]
    for outward in (np.array([1.0, 0.0]), np.array([0.0, 1.0])):
        for side in (-1, 1):
            parts += [np.stack([side * 1.2 * outward, side * reach * outward]) + centre, lift]
    return np.concatenate(parts)


def _padded(paths: list[Array]) -> tuple[Array, Array]:
    longest = max(len(path) for path in paths)
    found = np.full((2, len(paths), longest), np.nan, dtype=np.float32)
    for number, path in enumerate(paths):
        found[:, number, : len(path)] = path.T
    return found[0], found[1]


def space(shown: Shown) -> Scatter:
    """The columns of the kept model's W in the space of three hidden units."""
    weights = np.asarray(shown.relu[shown.kept], dtype=np.float32)
    features = weights.shape[1]
    return Scatter(
        title="Feature directions in space",
        note=f"Columns of W of the kept model ({shown.kept_name}), in the space of its three hidden units.",
        x_axis=Axis("First hidden unit"),
        y_axis=Axis("Second hidden unit"),
        z_axis=Axis("Third hidden unit"),
        value_axis=Axis("Dimensionality D"),
        points=weights.T,
        value=measures.measure(weights).dimensionality.astype(np.float32),
        label=np.array([f"feature {n}" for n in range(features)]),
    )


def dimensionality(shown: Shown) -> Lines:
    """D_i of every feature and dimensions per feature, of ReLU models and linear ones, against sparsity."""
    features = shown.relu.shape[2]
    chosen = np.unique(np.linspace(0, features - 1, min(features, POINTS)).astype(int))
    sparsity = np.asarray(1 / shown.density, dtype=np.float64)
    varied = len(np.unique(sparsity)) > 1
    x = sparsity if varied else np.arange(1, len(sparsity) + 1, dtype=np.float64)
    paths = []
    for weights, aside in ((shown.relu, 1.0), (shown.linear, 1.03 if varied else 1.0)):
        found = measures.measure(weights)
        points = np.stack([np.repeat(x * aside, len(chosen)), found.dimensionality[:, chosen].ravel()], axis=1)
        paths.append(_dots(points))
        paths.append(np.stack([x, np.minimum(found.dimensions, 1.5)], axis=1))
    found_x, found_y = _padded([paths[0], paths[2], paths[1], paths[3]])
    few = "" if len(chosen) == features else f" {len(chosen)} of the {features:,} features are drawn as points."
    return Lines(
        title="Dimensionality of features",
        note="Dots: Dᵢ = |Wᵢ|² / Σⱼ(Ŵᵢ·Wⱼ)² of each feature; 1 has a dimension to itself, 0 is not stored. "
        f"Lines: dimensions per feature D* = m / |W|², cut at 1.5. Control: linear models on the same data.{few}",
        x_axis=SPARSITY if varied else Axis("Model"),
        y_axis=Axis("Dimensionality"),
        series=("ReLU: features", "linear: features", "ReLU: D*", "linear: D*"),
        x=found_x,
        y=found_y,
        reference=measures.GUIDES,
    )


def _dots(points: Array) -> Array:
    """Points that are not joined: the pen is lifted behind each."""
    path = np.full((2 * len(points), 2), np.nan)
    path[0::2] = points
    return path


def overlaps(shown: Shown) -> Heatmap:
    """WᵀW of the kept model, with its bias as a last column."""
    weights, bias = shown.relu[shown.kept], shown.bias[shown.kept]
    names = [str(n) for n in range(len(bias))]
    return Heatmap(
        title="Overlaps and biases",
        note=f"WᵀW of the kept model ({shown.kept_name}): the diagonal is |Wᵢ|², the rest is interference. "
        "Last column: the bias b, which is below 0 where it has to cut interference off.",
        x_axis=Axis("Feature j; last column: bias"),
        y_axis=Axis("Feature i"),
        value_axis=Axis("Wᵢ · Wⱼ"),
        values=np.concatenate([weights.T @ weights, bias[:, None]], axis=1).astype(np.float32),
        x=np.array([*names, "b"]),
        y=np.array(names),
        diverging=True,
        levels=(-1.5, 1.5),
    )


def norms(shown: Shown, *, superposed: bool) -> Heatmap:
    """|Wᵢ|², or Sᵢ of the stored features, by feature and model; the linear controls beside the ReLU models."""
    both = np.concatenate([shown.relu, shown.linear])
    found = measures.measure(both)
    values = np.where(found.represented, found.superposition, np.nan) if superposed else found.norms**2
    what = (
        "Sᵢ = Σⱼ≠ᵢ(Ŵᵢ·Wⱼ)²: 0 shares its direction with no other feature, about 1 is fully shared. Grey: |Wᵢ| is 0.5 at most."
        if superposed
        else "|Wᵢ|²: 0 is not stored, about 1 is."
    )
    return Heatmap(
        title="Superposition of features" if superposed else "Squared norms of features",
        note=f"{what} Left half: ReLU models; right half (L): the linear control on the same data.",
        x_axis=Axis("Model"),
        y_axis=Axis("Feature"),
        value_axis=Axis("Superposition S" if superposed else "Squared norm"),
        values=values.T.astype(np.float32),
        x=np.array([*shown.names, *(f"L {name}" for name in shown.names)]),
        y=np.array([str(n) for n in range(values.shape[1])]),
        levels=(0.0, 2.5 if superposed else 1.5),
    )


def table(
    weights: Array, bias: Array, linear: Array, shown: Array, density: Array, restart: Array, loss: Array
) -> Table:
    """One row a model; arrays have one entry a model, W (models, hidden, features)."""
    found = measures.measure(weights)
    stored = found.represented
    count = stored.sum(axis=1)

    def over_stored(values: Array, how: Any) -> Array:
        return np.array([how(row[on]) if on.any() else np.nan for row, on in zip(values, stored, strict=True)])

    columns: list[tuple[str, Any]] = [
        ("Model", np.where(linear, "linear (control)", "ReLU")),
        ("Shown", np.where(shown, "yes", "")),
        ("Density p", density),
        ("1 / (1 − S)", 1 / density),
        ("Restart", restart),
        ("Test loss", loss),
        ("Features stored", count),
        ("D*", found.dimensions),
        ("Mean D of stored", over_stored(found.dimensionality, np.mean)),
        ("SD of D", over_stored(found.dimensionality, np.std)),
        ("Mean norm", over_stored(found.norms, np.mean)),
        ("SD of norm", over_stored(found.norms, np.std)),
        ("Mean bias", over_stored(bias, np.mean)),
    ]
    if weights.shape[1] == 2:
        uneven = [np.abs(g - 360 / len(g)).max() if len(g) > 1 else np.nan for g in map(measures.gaps, weights)]
        columns.append(("Uneven gaps", np.array(uneven)))
    columns.append(("Geometry", np.array([measures.described(w) for w in weights])))
    units = {"Uneven gaps": "degrees"}
    return Table(
        title="Models",
        note="Shown: the restart with the lowest test loss, and the linear control. Stored: |Wᵢ| > 0.5. Means and standard "
        "deviations are over the stored features of a model. Uneven gaps: the largest difference of an angle between "
        "neighbours from 360° / stored.",
        axes=tuple(Axis(name, units.get(name, "")) for name, _ in columns),
        columns=tuple(np.asarray(values) for _, values in columns),
    )
