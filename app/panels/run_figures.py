"""The figures of a run, each in its view, in a grid; tables last. A figure that is shown again only changes its view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import QWidget

from app.panels.parts import ResponsiveGrid
from engine.figures.kinds import Bars, Figure, Graph, Heatmap, Images, Lines, Scatter, Table, TokenStrip

if TYPE_CHECKING:
    from app.workbench import Workbench
    from engine.runs.movies import Movie

LEAST = 560  # width in pixels below which figures stand under each other
PAGE = 860  # usual width of what a page shows
ROW = 22  # pixels a bar or a table's row wants


def is_wide(figure: Figure) -> bool:
    """Whether a figure takes a whole row of the grid."""
    if isinstance(figure, Heatmap):
        return bool(figure.values.shape[1] > 40)
    return isinstance(figure, TokenStrip | Images)


def height_of(figure: Figure) -> int:
    """Pixels a figure wants: as many as its content needs to be read, within reason."""
    if isinstance(figure, Table):
        rows = len(figure.columns[0]) if figure.columns else 0
        return min(420, 126 + ROW * rows)  # with room for a scroll bar below
    if isinstance(figure, TokenStrip):
        return min(360, 110 + 26 * (len(figure.tokens) // 20))
    if isinstance(figure, Bars) and figure.horizontal:
        return min(640, 120 + ROW * len(figure.label))
    if isinstance(figure, Heatmap):
        return int(max(280, min(560, 120 + 14 * figure.values.shape[0])))
    if isinstance(figure, Images):
        return height_of_pictures(*figure.pixels.shape[:3])
    if isinstance(figure, Scatter | Graph) or (isinstance(figure, Lines) and figure.equal):
        return 460
    return 300


def height_of_pictures(count: int, rows: int, columns: int) -> int:
    """Pixels for ``count`` pictures of ``rows`` by ``columns``: a few in one row leave nothing empty below them."""
    across = min(count, 4)
    each = PAGE / across * rows / max(columns, 1)
    return int(max(260, min(460, 110 + -(-count // across) * each)))


def in_order(figures: dict[str, Figure]) -> list[str]:
    """Names with tables last, otherwise as they came."""
    return sorted(figures, key=lambda name: isinstance(figures[name], Table))


class RunFigures(ResponsiveGrid):
    """All figures of one run."""

    def __init__(self, run: str, workbench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(LEAST, 2, parent)
        self.run, self.workbench = run, workbench
        self._views: dict[str, Any] = {}
        self._movies: dict[str, Movie] = {}
        self._step: float | None = None

    def refresh(self) -> None:
        """Show all figures there are now."""
        for name in self.workbench.figure_names(self.run):
            if name not in self._views:
                self._take(name)
        self._arrange()

    def show_figure(self, name: str) -> None:
        """Bring one figure up to date, new or shown again."""
        self._take(name)
        self._arrange()

    def steps(self) -> list[float]:
        """All steps at which a figure of the run has a frame, rising."""
        for name in self.workbench.movie_names(self.run):
            self._movies[name] = self.workbench.movie(self.run, name)
        return sorted({float(step) for movie in self._movies.values() for step in movie.steps})

    def show_at(self, step: float | None) -> None:
        """Show the frames of ``step`` where figures have frames; None for the figures as the run showed them last."""
        self._step = step
        for name in self._movies:
            if name in self._views:
                self._take(name)

    @property
    def count(self) -> int:
        return len(self._views)

    def view(self, name: str) -> Any:
        """The view of the figure called ``name``; None where it is not shown."""
        return self._views.get(name)

    def _take(self, name: str) -> None:
        from app.views import make_view  # late: pyqtgraph is not paid for before the first figure

        figure = self._figure(name)
        view = self._views.get(name)
        if view is not None and view.figure.kind == figure.kind:
            if view.figure is not figure:
                view.set_figure(figure)
        else:
            if view is not None:
                view.hide()
                view.deleteLater()
            view = self._views[name] = make_view(figure, self.workbench)
        view.setFixedHeight(height_of(figure))

    def _figure(self, name: str) -> Figure:
        movie = self._movies.get(name)
        if self._step is None or movie is None or not len(movie):
            return self.workbench.figure(self.run, name)
        return movie.frame(movie.at(self._step))

    def _arrange(self) -> None:
        figures = {name: view.figure for name, view in self._views.items()}
        self.set_tiles([(self._views[name], is_wide(figures[name])) for name in in_order(figures)])
