"""The colours of both themes as plain text. Free of Qt and numpy: the window reads them before its first paint.

Text, muted text and accents keep a contrast of 4.5 : 1 on canvas and panel (WCAG AA).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

ThemeName: TypeAlias = Literal["light", "dark"]


@dataclass(frozen=True)
class Palette:
    """One theme's colours as ``#RRGGBB``.

    ``missing`` fills cells whose value is not finite; ``negative`` and ``positive`` shade tokens;
    ``diverging`` runs from the most negative to the most positive through the canvas itself.
    """

    name: ThemeName
    canvas: str
    panel: str
    line: str
    text: str
    muted: str
    accent: str
    good: str
    warning: str
    bad: str
    series: tuple[str, ...]
    missing: str
    positive: str
    negative: str
    diverging: tuple[str, ...]


LIGHT = Palette(
    name="light",
    canvas="#FFFFFF",
    panel="#F5F6F8",
    line="#D8DDE4",
    text="#1B1F24",
    muted="#566070",
    accent="#2457C5",
    good="#1B7F4B",
    warning="#8A5A00",
    bad="#B3261E",
    series=("#0072B2", "#C2410C", "#00795A", "#A8478A", "#8A6100", "#2A7FB8", "#6B46A8", "#566070"),
    missing="#B4BBC5",
    positive="#E8702A",
    negative="#2A7FB8",
    diverging=("#0B3C74", "#2A7FB8", "#9CC8E4", "#FFFFFF", "#F6BE94", "#D9692A", "#8A2E05"),
)
DARK = Palette(
    name="dark",
    canvas="#14171C",
    panel="#1B1F26",
    line="#323A45",
    text="#E7EAEF",
    muted="#9CA7B5",
    accent="#86ABFF",
    good="#5FD39A",
    warning="#F2B84B",
    bad="#FF8A80",
    series=("#56B4E9", "#FF9F5A", "#3FCFA0", "#F09BCB", "#F2C14B", "#A5D8FF", "#B79CFF", "#9CA7B5"),
    missing="#59626F",
    positive="#FF9F5A",
    negative="#56B4E9",
    diverging=("#BFE3FF", "#56B4E9", "#22577C", "#14171C", "#7C431E", "#FF9F5A", "#FFDCBC"),
)


def palette(theme: str) -> Palette:
    """The palette of ``theme``; anything but "dark" is light."""
    return DARK if theme == "dark" else LIGHT


def rgb(colour: str) -> tuple[int, int, int]:
    """``#RRGGBB`` as three numbers 0–255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
