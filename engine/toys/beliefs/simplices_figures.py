"""The figures of ``belief-simplices``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Images, Lines, Scatter, Table
from engine.toys.beliefs.simplices import BINS, TOP, Found, Simplex, affine_map, firing_maps, plane, r_squared
from engine.toys.small_dictionaries import Small

Array: TypeAlias = npt.NDArray[Any]
DOTS = 500  # samples of each kind in the movie
PICTURES = 8  # latents of each dictionary whose maps are shown
CONTROL = "control"  # how the names of its dictionaries begin
ASIDE = 1.3  # how far to the right the control is drawn


def sides(simplices: Sequence[Simplex], count: int = DOTS) -> tuple[Array, Array]:
    """The first held-out samples of each simplex in its plane, side by side: points, and the nearest corners."""
    points = [plane(one.held_weights[:count]) + np.array([number * ASIDE, 0]) for number, one in enumerate(simplices)]
    corners = [one.held_weights[:count].argmax(axis=1) for one in simplices]
    return np.concatenate(points).astype(np.float32), np.concatenate(corners)


def strongest_scatter(simplices: Sequence[Simplex], dictionaries: Sequence[Small], count: int = DOTS) -> Scatter:
    """Samples in the plane of their weights, coloured by the place of the strongest latent's best samples."""
    import torch

    points, nearest = sides(simplices, count)
    values = []
    for one, simplex in zip(dictionaries, simplices, strict=True):
        codes = one.codes(torch.from_numpy(simplex.held_x[:count])).numpy()
        strongest, own = codes.argmax(axis=1), plane(simplex.held_weights[:count])[:, 0]
        # A latent's colour is where it lies from left to right, so that neighbours in colour are neighbours in place.
        centre = np.array(
            [own[strongest == latent].mean() if (strongest == latent).any() else 0 for latent in strongest]
        )
        values.append(centre)
    width = dictionaries[0].job.width
    return Scatter(
        title=f"Which latent is the strongest, width {width}, k = {dictionaries[0].job.k}",
        note=f"Each dot is a held-out sample at its weights, {count:,} of each kind; left the simplex, right the Gaussian of "
        "the same covariance (control). Dots of one strongest latent have one colour: the mean place, from left to right, of its "
        "samples. Patches are tiles; a gradient from corner to corner would be latents for the corners.",
        x_axis=Axis("Place in the plane of the weights"),
        y_axis=Axis("Height"),
        value_axis=Axis("Mean place of the strongest latent's samples"),
        points=points,
        value=np.concatenate(values).astype(np.float32),
        label=np.array([simplices[0].corners[number] for number in nearest]),
    )


LINES: tuple[tuple[str, str, Callable[[Found], float]], ...] = (
    ("auroc", "AUROC of the best latent for a corner", lambda found: float(found.auroc.mean())),
    ("local", "Variance where a latent is active / of all", lambda found: found.local),
    ("area", "Share of the triangle on which a latent is active", lambda found: found.area),
    ("barycentric", "R² of barycentric coordinates, mean reconstructions as corners", lambda found: found.r2_means),
)
NOTES = {
    "auroc": "Held-out half; mean over the corners. 1: some latent tells a corner's samples from all others.",
    "local": "Held-out half, mean over living latents. 1: a latent is active all over; near 0: it is a tile.",
    "area": "Held-out half: share of the occupied bins in which a living latent is active on half of the samples or more; mean "
    "over living latents. A corner's latent covers about a third, a tile a few percent.",
    "barycentric": f"Held-out half. Corners: mean reconstruction of the {TOP:.0%} of the samples nearest to each corner. 1: the "
    "activations' coordinates in these corners are the weights. No better than the Gaussian's: no evidence of a simplex.",
}


def width_lines(name: str, label: str, groups: dict[str, list[tuple[int, float]]]) -> Lines:
    """One measure against width: by series (width, value)."""
    widths = np.array([[width for width, _ in points] for points in groups.values()], dtype=float)
    return Lines(
        title=label,
        note=NOTES[name],
        x_axis=Axis("Width", "latents", "log"),
        y_axis=Axis(label),
        series=tuple(groups),
        x=widths,
        y=np.array([[value for _, value in points] for points in groups.values()]),
    )


def corners_scatter(found: Sequence[tuple[str, Found]], simplex: Simplex) -> Scatter:
    """Corners that dictionaries have, in the plane of the weights, beside the true ones."""
    slope, shift = affine_map(simplex.x, simplex.weights)
    names, points, values = [], [], []
    true = np.eye(len(simplex.corners))
    for number, corner in enumerate(simplex.corners):
        names.append(f"true corner {corner}")
        points.append(plane(true[number : number + 1])[0])
        values.append(0)
    for label, one in found:
        kinds = [("mean", 1, one.mean_corners), ("decoder", 2, one.decoder_corners)]
        if label.startswith(CONTROL):
            kinds = [("mean", 3, one.mean_corners)]
        for kind, value, corners in kinds:
            placed = plane(corners @ slope + shift)
            names += [f"{label}, {kind} {corner}" for corner in simplex.corners]
            points += list(placed)
            values += [value] * len(placed)
    return Scatter(
        title="Corners found by dictionaries",
        note="In the plane of the weights, read from activations by affine least squares. 0: true corners. 1: mean "
        "reconstruction of the samples nearest to a corner. 2: b_dec and the best latent's atom at its mean activity "
        "there. 3: mean reconstructions of the Gaussian control. Samples may not reach the true corners, so means lie inside.",
        x_axis=Axis("Place in the plane of the weights"),
        y_axis=Axis("Height"),
        value_axis=Axis("0 true, 1 mean, 2 decoder, 3 control"),
        points=np.array(points),
        value=np.array(values, dtype=float),
        label=np.array(names),
    )


def firing_images(rows: Sequence[tuple[str, Small, Simplex]]) -> Images:
    """Where the latents that are active most often are active, in the plane of the weights."""
    import torch

    captions, pictures = [], []
    for head, one, simplex in rows:
        on = one.codes(torch.from_numpy(simplex.held_x)).numpy() > 0
        often = np.argsort(-on.sum(axis=0), kind="stable")[:PICTURES]
        maps = firing_maps(on[:, often], simplex.held_weights)
        captions += [f"{head} #{latent}" for latent in often]
        pictures += [picture[::-1] for picture in maps]
    return Images(
        title="Where latents are active",
        note=f"The {PICTURES} latents of a dictionary that are active most often: share of the held-out samples in each of "
        f"{BINS} × {BINS} bins of the plane of the weights on which the latent is active; empty where there are no samples. "
        "Named by the width of the dictionary; the Gaussian control comes last.",
        x_axis=Axis("Place"),
        y_axis=Axis("Height"),
        value_axis=Axis("Active", "share"),
        captions=tuple(captions),
        pixels=np.stack(pictures).astype(np.float32),
    )


def table(rows: Sequence[tuple[Small, Found]], simplices: dict[str, Simplex]) -> Table:
    """All dictionaries with all that is measured of them."""
    columns: dict[str, list[Any]] = {}
    for one, found in rows:
        simplex = simplices[one.job.data]
        slope, shift = affine_map(simplex.x, simplex.weights)
        row: dict[str, Any] = {
            "Data": one.job.label,
            "Width": one.job.width,
            "k": one.job.k,
            "FVU": found.fvu,
            "Living latents": found.alive,
            "AUROC": found.auroc.mean(),
            "AUROC, worst corner": found.auroc.min(),
            "Different best latents": len(set(found.latents.tolist())),
            "R², corners by means": found.r2_means,
            "R², corners by decoder": found.r2_decoder,
            "R², affine probe": r_squared(simplex.held_weights, simplex.held_x @ slope + shift),
            "P2, corners by means": found.p2_means,
            "P2, corners by decoder": found.p2_decoder,
            "Area of a latent": found.area,
            "Spread of a latent": found.local,
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return Table(
        title="All dictionaries",
        note="On held-out samples. AUROC: of the best latent for each corner, mean over corners. R²: weights by barycentric "
        "coordinates of the activations in the corners found, beside an affine probe, which is as good as can be. P2: root mean "
        "square deviation of the corners' cosines, seen from their centre, from a regular simplex. Area and spread: mean over "
        "living latents; small ones are tiles. Gaussian control: weights read by the probe of the true data, so its R² "
        "of an affine probe is 1 by construction.",
        axes=tuple(Axis(name) for name in columns),
        columns=tuple(np.asarray(column) for column in columns.values()),
    )
