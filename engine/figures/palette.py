"""Colours shared by the window and by exported figures: colour maps, series, shading. Free of Qt.

Series are told apart by dash or marker too from the fifth on (`dash_of`), never by colour alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.colours import DARK as DARK
from engine.figures.colours import LIGHT as LIGHT
from engine.figures.colours import Palette as Palette
from engine.figures.colours import ThemeName as ThemeName
from engine.figures.colours import palette as palette
from engine.figures.colours import rgb as rgb

Bytes: TypeAlias = npt.NDArray[np.uint8]
Dash: TypeAlias = Literal["solid", "dashed", "dotted", "dashdot"]
INK, CHALK = "#1B1F24", "#FFFFFF"  # words on coloured cells
COLOURS = 256  # entries of a colour map: more are slower to draw and not told apart
# Every 17th entry of viridis (van der Walt and Smith 2015, CC0): interpolation stays within 7/255 of it.
VIRIDIS = (
    "#440154", "#481A6C", "#472F7D", "#414487", "#39568C", "#31688E", "#2A788E", "#23888E",
    "#1F988B", "#22A884", "#35B779", "#54C568", "#7AD151", "#A5DB36", "#D2E21B", "#FDE725",
)  # fmt: skip
_DASHES: tuple[Dash, ...] = ("dashed", "dotted", "dashdot")


def _ramp(anchors: tuple[str, ...], count: int) -> Bytes:
    places = np.linspace(0, 1, len(anchors))
    wanted = np.linspace(0, 1, count)
    channels = np.asarray([rgb(anchor) for anchor in anchors], dtype=np.float64)
    table = np.stack([np.interp(wanted, places, channels[:, channel]) for channel in range(3)], axis=1)
    return np.ascontiguousarray(np.rint(table), dtype=np.uint8)


@cache
def colour_map(theme: str, diverging: bool, count: int = COLOURS) -> Bytes:
    """The colour table (count, 3) uint8: viridis, or blue – canvas – orange for maps about zero."""
    return _ramp(palette(theme).diverging if diverging else VIRIDIS, count)


def luminance(colours: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Relative luminance (WCAG 2.2) of colours (…, 3) in 0–255; the last axis goes."""
    share = np.asarray(colours, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    light: npt.NDArray[np.float64] = linear @ np.asarray([0.2126, 0.7152, 0.0722])
    return light


def dark_ink(colours: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether words on the colours (…, 3) in 0–255 are read better in `INK` than in `CHALK`."""
    light = luminance(colours)
    on_ink = (light + 0.05) / (luminance(np.asarray(rgb(INK))) + 0.05)
    return np.asarray(on_ink >= 1.05 / (light + 0.05))


def series_colour(theme: str, index: int) -> str:
    """The colour of series ``index``; colours repeat from the ninth on, with another dash."""
    series = palette(theme).series
    return series[index % len(series)]


def dash_of(index: int) -> Dash:
    """The dash of series ``index``: solid for the first four, then dashed, dotted and dash-dotted in turn."""
    return "solid" if index < 4 else _DASHES[(index - 4) // 4 % 3]


def marker_of(index: int) -> str:
    """The marker of group ``index`` among scattered points: ``o s ^ D`` in turn by fours."""
    return "osD^"[index // 4 % 4]


def shade(value: npt.NDArray[Any], theme: str, *, top: float) -> npt.NDArray[np.float64]:
    """Shading of tokens: RGBA (n, 4) in 0–1, one hue with alpha by ``value / top``, a second hue below zero.

    Values that are not finite get no shade at all: they are marked by the caller, never drawn as zero.
    """
    colours = palette(theme)
    value = np.asarray(value, dtype=np.float64)
    finite = np.isfinite(value)
    safe = np.where(finite, value, 0.0)
    hue = np.where(safe[:, None] < 0, np.asarray(rgb(colours.negative)), np.asarray(rgb(colours.positive))) / 255
    alpha = np.clip(np.abs(safe) / top, 0, 1) * 0.85 if top > 0 else np.zeros_like(safe)
    return np.concatenate([hue, alpha[:, None]], axis=1)


def mixed_shade(value: npt.NDArray[Any], theme: str, *, top: float) -> npt.NDArray[np.float64]:
    """`shade` laid over the canvas: opaque RGB (n, 3) in 0–255."""
    shades = shade(value, theme, top=top)
    canvas = np.asarray(rgb(palette(theme).canvas), dtype=np.float64)
    mixed: npt.NDArray[np.float64] = shades[:, :3] * 255 * shades[:, 3:] + canvas * (1 - shades[:, 3:])
    return mixed
