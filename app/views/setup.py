"""pyqtgraph's settings, made once before its first use.

Images are row-major C-contiguous arrays with explicit levels; lines are one pixel wide without
antialias (width 2 with it is fifteen times slower); drawing by OpenGL stays off: drivers, remote
desktops and virtual machines are what breaks it.
"""

from __future__ import annotations

import pyqtgraph as pg  # type: ignore[import-untyped]

pg.setConfigOptions(
    imageAxisOrder="row-major",
    antialias=False,
    useOpenGL=False,
    useNumba=False,
    # With a limit the last move before the mouse rests may be dropped, and the read-out is of another place.
    mouseRateLimit=-1,
)

__all__ = ["pg"]
