"""Curves, points, histograms and bars on matplotlib axes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure as Sheet

from engine.figures.cells import Levels, levels
from engine.figures.kinds import Axis, Bars, Histogram, Lines, Scatter
from engine.figures.palette import colour_map, dash_of, marker_of, palette, series_colour
from engine.figures.points import binned, drawable, extent, project, said_of_points, turning
from engine.figures.tabular import drawn_length
from engine.figures.words import every, shortened, visible_token

Array: TypeAlias = npt.NDArray[Any]
SIZE = (5.0, 3.2)  # inches: one and a half columns of a paper
FEW = 40  # points up to which each is marked
MOST_POINTS = 20_000  # points beyond which an SVG holds them as a picture
INSIDE = 5  # legend entries that fit inside the axes
MOST_NAMES = 30  # legend entries that are written at all


def frame(sheet: Sheet, x: Axis, y: Axis, *, grid: str = "both") -> Axes:
    """Axes with labels and units, the scales, a light grid and at most six ticks each way."""
    axes = sheet.add_subplot()
    axes.set_xlabel(x.text())
    axes.set_ylabel(y.text())
    for axis, scale in ((axes.xaxis, x.scale), (axes.yaxis, y.scale)):
        (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)(scale)
        if scale == "linear":
            axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            formatter = ticker.ScalarFormatter(useOffset=False, useMathText=False)
            formatter.set_powerlimits((-4, 6))
            axis.set_major_formatter(formatter)
        else:
            axis.set_major_locator(ticker.LogLocator(numticks=6))
            axis.set_major_formatter(ticker.FuncFormatter(_log_tick))
            axis.set_minor_formatter(ticker.NullFormatter())
    if grid:
        axes.grid(True, axis=grid)  # type: ignore[arg-type]
    return axes


def _log_tick(value: float, _: int | None = None) -> str:
    """``0.01``, ``1``, ``1,000``, beyond that ``1e6``."""
    if value <= 0:
        return ""
    if 1e-3 <= value < 1e5:
        return f"{value:,g}" if value < 1 else f"{value:,.0f}"
    return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def legend(axes: Axes, count: int) -> None:
    """A legend inside while it is short, to the right of the axes when it is long."""
    if count > INSIDE:
        handles, names = axes.get_legend_handles_labels()
        if len(names) > MOST_NAMES:
            rest = len(names) - MOST_NAMES
            handles, names = handles[:MOST_NAMES], [*names[:MOST_NAMES]]
            names[-1] = f"{names[-1]} … and {rest} more"
        axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0)
    elif count:
        # Where no corner is free a curve shows through, and its name is still read.
        axes.legend(loc="best", frameon=True, framealpha=0.8, edgecolor="none")


def lines(figure: Lines, sheet: Sheet, theme: str) -> Axes:
    """Curves with error bands; gaps where values are missing, which the corner says."""
    sheet.set_size_inches(SIZE)
    axes = frame(sheet, figure.x_axis, figure.y_axis)
    log_x, log_y = figure.x_axis.scale == "log", figure.y_axis.scale == "log"
    left_out = 0
    for index, name in enumerate(figure.series):
        used = drawn_length(figure.x[index], figure.y[index])
        x = np.asarray(figure.x[index, :used], dtype=np.float64)
        y = np.asarray(figure.y[index, :used], dtype=np.float64)
        good = drawable(x, log_x) & drawable(y, log_y)
        left_out += int((~good & ~(np.isnan(x) & np.isnan(y))).sum())
        colour = series_colour(theme, index)
        single = good & ~np.r_[False, good[:-1]] & ~np.r_[good[1:], False]
        marker = marker_of(index) if good.sum() <= FEW else None
        axes.plot(
            x,
            np.where(good, y, np.nan),
            color=colour,
            linestyle=dash_of(index),
            marker=marker,
            label=name or f"series {index + 1}",
        )
        if marker is None and single.any():
            axes.plot(x[single], y[single], color=colour, linestyle="none", marker=".")
        if figure.low is not None and figure.high is not None:
            low, high = (np.asarray(band[index, :used], dtype=np.float64) for band in (figure.low, figure.high))
            both = drawable(low, log_y) & drawable(high, log_y) & np.isfinite(x)
            axes.fill_between(x, low, high, where=both.tolist(), color=colour, alpha=0.18, linewidth=0)
    for name, value in figure.reference.items():
        if drawable(np.asarray([value]), log_y)[0]:
            axes.axhline(value, color=palette(theme).muted, linewidth=0.8, linestyle=(0, (5, 3)), label=name)
        else:
            left_out += 1
    if figure.equal:
        axes.set_aspect("equal", adjustable="datalim")
    count = len(figure.series) + len(figure.reference)
    named = count > 1 or any(figure.series)
    legend(axes, count if named and not (count == 1 and _says(figure.y_axis.label, figure.series[0])) else 0)
    axes.set_title(said_of_points(left_out, log_x or log_y))
    return axes


def _says(label: str, name: str) -> bool:
    return name.strip().lower() == label.strip().lower()


def scatter(figure: Scatter, sheet: Sheet, theme: str, camera: tuple[float, float]) -> Axes:
    """Points in the plane, or seen from ``camera``, coloured by their value."""
    sheet.set_size_inches(4.4, 3.6)
    solid = figure.points.shape[1] == 3
    log = (figure.x_axis.scale == "log", figure.y_axis.scale == "log")
    if solid:
        axes = sheet.add_subplot()
        axes.set_axis_off()
        axes.set_aspect("equal")
        good = np.asarray(np.isfinite(figure.points).all(axis=1))
        centre, half = extent(figure.points)
        at, depth = project(figure.points, *camera)
        order = np.argsort(depth[good], kind="stable")
        _box(axes, figure, (centre, half), camera, theme)
    else:
        axes = frame(sheet, figure.x_axis, figure.y_axis)
        points = np.asarray(figure.points, dtype=np.float64)
        good = drawable(points[:, 0], log[0]) & drawable(points[:, 1], log[1])
        at, order = points, np.arange(int(good.sum()))
    shown = np.flatnonzero(good)[order]
    size = float(np.clip(6000 / max(len(shown), 1), 1.5, 14))
    style: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": len(shown) > MOST_POINTS}
    left_out = int(len(good) - good.sum())
    if figure.value is None:
        axes.scatter(at[shown, 0], at[shown, 1], color=series_colour(theme, 0), alpha=_alpha(len(shown)), **style)
        axes.set_title(said_of_points(left_out, any(log), "point"))
        return axes
    axis = figure.value_axis or Axis("Value")
    found = levels(figure.value, log=axis.scale == "log")
    value = np.asarray(figure.value, dtype=np.float64)[shown]
    known = drawable(value, found.log)
    grey = np.asarray(shown[~known])
    if len(grey):
        axes.scatter(at[grey, 0], at[grey, 1], color=palette(theme).missing, marker="x", s=size, linewidths=0.6)
    table = ListedColormap(colour_map(theme, False) / 255.0)
    kept = shown[known]
    drawn = axes.scatter(at[kept, 0], at[kept, 1], c=value[known], cmap=table, norm=norm(found), **style)
    colour_bar(sheet, axes, drawn, axis, found)
    said = [said_of_points(left_out, any(log), "point")]
    said += [f"{len(grey):,} without a value (grey crosses)"] if len(grey) else []
    axes.set_title("; ".join(part for part in said if part))
    return axes


def _alpha(count: int) -> float:
    return 0.8 if count <= 2000 else 0.35


def norm(found: Levels) -> Normalize:
    """The scale of colours, clipped at its ends."""
    return (LogNorm if found.log else Normalize)(found.low, found.high, clip=True)


def colour_bar(sheet: Sheet, axes: Any, drawn: Any, axis: Axis, found: Levels) -> Colorbar:
    """A bar with the unit, pointed where values lie beyond it."""
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (found.below > 0, found.above > 0), "neither"
    )
    bar = sheet.colorbar(drawn, ax=axes, label=axis.text(), extend=extend, pad=0.02, fraction=0.05, aspect=24)
    bar.outline.set_visible(False)
    if not found.log:
        bar.locator = ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        bar.update_ticks()
    return bar


def _box(axes: Axes, figure: Scatter, frame_of: tuple[Array, Array], camera: tuple[float, float], theme: str) -> None:
    """The three axes of a turned cloud, from its lowest corner, with their names and ranges."""
    centre, half = frame_of
    turn = turning(*camera)[:2]
    names = [axis.text() if axis else "z" for axis in (figure.x_axis, figure.y_axis, figure.z_axis)]
    corner = np.asarray([-1.0, -1.0, -1.0])
    for index, name in enumerate(names):
        end = corner.copy()
        end[index] = 1.0
        (x0, y0), (x1, y1) = turn @ corner, turn @ end
        axes.plot([x0, x1], [y0, y1], color=palette(theme).muted, linewidth=0.6, zorder=0)
        low, high = centre[index] - half[index], centre[index] + half[index]
        outward = turn @ (end + 0.12 * (end - corner) / 2 * np.eye(3)[index])
        text = axes.text(float(outward[0]), float(outward[1]), f"{name}\n{low:.3g} … {high:.3g}", fontsize=6, zorder=5)
        text.set(ha="center", va="center")
        text.set_bbox({"facecolor": palette(theme).canvas, "edgecolor": "none", "alpha": 0.75, "pad": 0.8})
    axes.margins(0.12)


def histogram(figure: Histogram, sheet: Sheet, theme: str) -> Axes:
    """Steps per group on shared bins, or mirrored counts side by side (violins)."""
    sheet.set_size_inches(SIZE)
    found = binned(figure)
    if figure.violins:
        axes = _violins(figure, found.edges, found.counts, sheet, theme)
    else:
        axes = frame(sheet, figure.x_axis, figure.y_axis)
        log_y = figure.y_axis.scale == "log"
        for index, name in enumerate(figure.groups):
            colour = series_colour(theme, index)
            counts = np.where(drawable(found.counts[index], log_y), found.counts[index], np.nan)
            fill = len(figure.groups) == 1
            axes.stairs(
                counts,
                found.edges,
                baseline=None if log_y else 0,
                color=colour,
                linestyle=dash_of(index),
                linewidth=1.1,
                label=name,
            )
            if fill and not log_y:
                axes.stairs(counts, found.edges, fill=True, color=colour, alpha=0.25)
        legend(axes, len(figure.groups) if len(figure.groups) > 1 else 0)
        if not log_y:
            axes.set_ylim(bottom=0)
    axes.set_title(said_of_points(found.left_out, figure.x_axis.scale == "log", "sample"))
    return axes


def _violins(figure: Histogram, edges: Array, counts: Array, sheet: Sheet, theme: str) -> Axes:
    axes = frame(sheet, Axis(""), figure.x_axis, grid="y")
    for index in range(len(figure.groups)):
        most = np.nanmax(counts[index], initial=0.0)
        if most == 0:
            continue
        filled = np.flatnonzero(counts[index] > 0)
        first, last = int(filled[0]), int(filled[-1]) + 1
        outline = np.repeat(counts[index, first:last] / most * 0.42, 2)
        heights = np.repeat(edges[first : last + 1], 2)[1:-1]
        colour = series_colour(theme, index)
        axes.fill_betweenx(heights, index - outline, index + outline, color=colour, alpha=0.35, lw=0)
        around = np.r_[index - outline, (index + outline)[::-1]]
        axes.plot(around, np.r_[heights, heights[::-1]], lw=0.8, color=colour)
        if figure.samples is not None:
            row = np.asarray(figure.samples[index], dtype=np.float64)
            kept = row[drawable(row, figure.x_axis.scale == "log")]
            if kept.size:
                axes.plot([index - 0.15, index + 0.15], [np.median(kept)] * 2, color=palette(theme).text, lw=1.2)
    word_ticks(axes, list(figure.groups))
    return axes


def word_ticks(axes: Axes, words: list[str], *, vertical: bool = False, room: int = 60) -> None:
    """Words at 0, 1, 2 …; slanted where they would touch, upright where there are many, thinned beyond ``room``."""
    step = every(len(words), room)
    places = list(range(0, len(words), step))
    shown = [shortened(visible_token(words[place]), 24) for place in places]
    crowded = max((len(word) for word in shown), default=0) * len(shown) > 62
    if vertical:
        axes.set_yticks(places, shown)
    elif len(shown) > 24:
        axes.set_xticks(places, shown, rotation=90)
    elif crowded:
        axes.set_xticks(places, shown, rotation=45, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(places, shown)


def bars(figure: Bars, sheet: Sheet, theme: str) -> Axes:
    """One bar a label with error marks; a bar whose value is missing is a cross on the base line."""
    count = len(figure.label)
    flat = figure.horizontal
    if flat:
        sheet.set_size_inches(SIZE[0], float(np.clip(0.6 + 0.19 * count, 1.6, 9)))
    else:
        sheet.set_size_inches(float(np.clip(1.2 + 0.16 * count, 3.4, 7)), SIZE[1])
    axes = (
        frame(sheet, figure.y_axis, Axis(figure.x_axis.label, figure.x_axis.unit), grid="x")
        if flat
        else frame(sheet, Axis(figure.x_axis.label, figure.x_axis.unit), figure.y_axis, grid="y")
    )
    log = figure.y_axis.scale == "log"
    value = np.asarray(figure.value, dtype=np.float64)
    good = drawable(value, log)
    at = np.arange(count)
    colours = [series_colour(theme, 1 if one < 0 else 0) for one in np.where(good, value, 0)]
    shown = [colour for colour, keep in zip(colours, good, strict=True) if keep]
    (axes.barh if flat else axes.bar)(at[good], value[good], 0.72, color=shown)
    if not log:
        (axes.axvline if flat else axes.axhline)(0, color=palette(theme).muted, linewidth=0.6)
    if figure.low is not None and figure.high is not None:
        low, high = np.asarray(figure.low, dtype=np.float64), np.asarray(figure.high, dtype=np.float64)
        both = good & drawable(low, log) & drawable(high, log)
        if both.any():
            ends = (axes.hlines if flat else axes.vlines)(at[both], low[both], high[both], linewidth=0.9)
            ends.set_color(palette(theme).text)
    if (~good).any():
        base = axes.get_xlim()[0] if flat and log else axes.get_ylim()[0] if log else 0.0
        where = (np.full((~good).sum(), base), at[~good])
        axes.plot(*(where if flat else where[::-1]), "x", color=palette(theme).muted)
    word_ticks(axes, [str(name) for name in figure.label], vertical=flat)
    if flat:
        axes.invert_yaxis()
    axes.set_title(said_of_points(int((~good).sum()), log))
    return axes
