"""Writing a figure to PNG, SVG or CSV: one function for the window, the command line and scripts.

PNG has 300 dots per inch at the size a paper prints it; SVG keeps text as text and carries neither
date nor path, so that the same figure gives the same file. matplotlib is imported only here and in
`engine.figures.drawing`, when a picture is asked for.
"""

from __future__ import annotations

import threading
from pathlib import Path

from engine import files
from engine.figures.kinds import Figure, FigureError
from engine.figures.points import CAMERA
from engine.figures.tabular import write_csv

FORMATS = ("png", "svg", "csv")
DPI = 300
_DRAWING = threading.Lock()  # matplotlib's settings are global to the process


def write_figure(
    figure: Figure, path: Path | str, theme: str = "light", *, camera: tuple[float, float] = CAMERA
) -> None:
    """Write ``figure`` to ``path``; the extension (.png, .svg, .csv) says how. The file is replaced atomically.

    Args:
        figure: any kind.
        path: where to; the folder is made when it is not there.
        theme: colours, "light" (white paper) or "dark".
        camera: azimuth and elevation in degrees from which 3-D points are seen.

    Raises:
        FigureError: the extension is none of these.
        DiskError: the file could not be written; what was there is untouched.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        had = f"“{path.suffix}”" if path.suffix else "no extension"
        raise FigureError(
            f"A figure cannot be written as {path.name}, which has {had}; end the name in .png, .svg or .csv."
        )
    with files.replacing(path) as temporary:
        if kind == "csv":
            write_csv(figure, temporary)
        else:
            _write_picture(figure, temporary, kind, theme, camera)


def _write_picture(figure: Figure, path: Path, kind: str, theme: str, camera: tuple[float, float]) -> None:
    from engine.figures.drawing import draw, settings

    if kind == "svg":
        metadata = {"Date": None, "Creator": "Superscope", "Title": figure.title, "Description": figure.note}
    else:
        metadata = {"Software": "Superscope", "Title": figure.title, "Description": figure.note}
    with _DRAWING, settings(theme):
        drawn = draw(figure, theme, camera)
        drawn.savefig(
            path, format=kind, dpi=DPI, metadata={key: value for key, value in metadata.items() if value != ""}
        )
