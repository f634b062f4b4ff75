"""`FigureView`: what every view has around its picture.

Title and how to read it, controls that appear on hover or focus and have keys, a read-out that
follows the mouse, a hint while there is nothing to see, export and copy, the theme. A view never
draws when told of new data: it marks itself with the painter, which calls `paint_now`.
"""

from __future__ import annotations

import csv
import io
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QMimeData, QObject, QSize, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QEnterEvent,
    QFontMetrics,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QPalette,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from app.theme import XS, S, Theme, colours_for_qt, heading, small
from app.views.controls import Controls
from app.views.exporting import exporter
from engine.figures.kinds import Figure
from engine.figures.points import CAMERA
from engine.figures.tabular import table

if TYPE_CHECKING:
    from app.workbench import Workbench

_CONTROL, _SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
MOST_COPIED = 100_000  # rows that go to the clipboard; more belong into a file


class Line(QLabel):
    """One line of text that is cut with an ellipsis, shown whole as its tool tip, and can be selected."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._whole = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(name)
        self.keep_tip = False

    def say(self, text: str) -> None:
        """Show ``text``."""
        if text != self._whole:
            self._whole = text
            self.setAccessibleDescription(text)
            self._cut()

    @property
    def whole(self) -> str:
        return self._whole

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._cut()

    def _cut(self) -> None:
        shown = QFontMetrics(self.font()).elidedText(self._whole, Qt.TextElideMode.ElideRight, max(self.width() - 2, 0))
        if shown != self.text():
            self.setText(shown)
        if not self.keep_tip:
            self.setToolTip(self._whole if shown != self._whole else "")

    def minimumSizeHint(self) -> QSize:
        return QSize(20, QFontMetrics(self.font()).height() + 2)

    def sizeHint(self) -> QSize:
        return QSize(120, QFontMetrics(self.font()).height() + 2)


class FigureView(QWidget):
    """A figure with everything around it.

    Signals:
        point_hovered, point_clicked: a point, bar, token, row or node, by its index.
        cell_hovered, cell_clicked: a cell of a map, by row and column.
    """

    point_hovered = Signal(int)
    point_clicked = Signal(int)
    cell_hovered = Signal(int, int)
    cell_clicked = Signal(int, int)

    empty_hint = "There is nothing to show yet: the figure appears here when the run has made it."

    def __init__(self, workbench: Workbench, figure: Figure | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.workbench = workbench
        self._figure = figure
        self._stale = False  # dressed in an old theme
        self.paints = 0
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Window)
        self._build()
        self.add_actions()
        self._add_common_actions()
        self.dress(workbench.theme)
        workbench.theme_changed.connect(self._theme_changed)
        if figure is not None:
            self.set_figure(figure)

    # ---- what a kind of view defines

    def make_content(self) -> QWidget:
        """The widget that shows the data."""
        raise NotImplementedError

    def add_actions(self) -> None:
        """Add what can be done with this kind of figure."""

    def draw(self) -> None:
        """Bring the content up to date with the figure."""
        raise NotImplementedError

    def is_empty(self) -> bool:
        """Whether there is nothing that could be drawn."""
        return self._figure is None

    def exported(self) -> Figure | None:
        """The figure as it is shown: with the axes and scales that a person chose."""
        return self._figure

    def camera(self) -> tuple[float, float]:
        """Azimuth and elevation that 3-D points are seen from."""
        return CAMERA

    def move_selection(self, right: int, down: int) -> None:
        """Move what is read out, as the arrow keys do."""

    def pan(self, right: int, down: int) -> None:
        """Move what is shown, as Shift and the arrow keys do."""

    def zoom(self, factor: float) -> None:
        """Zoom about the middle."""

    def unlock(self) -> None:
        """Let go of what is locked."""

    def activate(self) -> None:
        """Do with the keyboard what a click does."""

    def idle_text(self) -> str:
        """What the read-out says while nothing is pointed at: the first sentence of the note."""
        note = self.note()
        return re.split(r"(?<=\.)\s|\n", note, maxsplit=1)[0] if note else ""

    # ---- figure

    @property
    def figure(self) -> Any:
        return self._figure

    def set_figure(self, figure: Figure) -> None:
        """Show another figure of the same kind, at the painter's next turn."""
        self._figure = figure
        self.workbench.painter.mark(self)

    def title(self) -> str:
        return self._figure.title if self._figure is not None else ""

    def note(self) -> str:
        return self._figure.note if self._figure is not None else ""

    def paint_now(self) -> None:
        """Draw what has changed. Called by the painter."""
        self.paints += 1
        if self._stale:
            self._stale = False
            self.dress(self.workbench.theme)
        self._write_frame()
        empty = self.is_empty()
        self._pages.setCurrentIndex(1 if empty else 0)
        if not empty:
            self.draw()
            self.refresh_read_out()

    def read_out(self, text: str) -> None:
        """Say what is pointed at; "" goes back to the idle text."""
        self._pointed = text
        self.reading.say(text or self.idle_text())

    def refresh_read_out(self) -> None:
        """Say again what is pointed at, after the data have changed under it."""
        if not self._pointed:
            self.reading.say(self.idle_text())

    # ---- frame

    def _build(self) -> None:
        self._pointed = ""
        self.heading = Line("Title")
        self.heading.setFont(heading())
        self.heading.keep_tip = True
        self.how = QLabel()
        self.how.setWordWrap(True)
        self.how.setFont(small())
        self.how.setTextFormat(Qt.TextFormat.PlainText)
        self.how.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.how.setAccessibleName("How to read it")
        self.how.hide()
        self.reading = Line("Read-out")
        self.reading.setFont(small())
        self.hint = QLabel(self.empty_hint)
        self.hint.setWordWrap(True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.hint.setAccessibleName("Nothing to show")
        self.above = QHBoxLayout()  # choosers of the kind
        self.above.setContentsMargins(0, 0, 0, 0)
        self.above.setSpacing(S)
        self.content = self.make_content()
        self._pages = QStackedLayout()
        self._pages.addWidget(self.content)
        self._pages.addWidget(self.hint)
        self.layout_ = QVBoxLayout(self)
        self.layout_.setContentsMargins(S, S, S, XS)
        self.layout_.setSpacing(XS)
        self.layout_.addWidget(self.heading)
        self.layout_.addWidget(self.how)
        self.layout_.addLayout(self.above)
        self.layout_.addLayout(self._pages, 1)
        self.layout_.addWidget(self.reading)
        self.controls = Controls(self)
        self._watch(self.content)
        self.setFocusProxy(self.content)

    def _watch(self, widget: QWidget) -> None:
        """Show the controls while ``widget`` or one of the controls has the focus."""
        for each in (widget, *self.controls.findChildren(QWidget)):
            each.installEventFilter(self)

    def _add_common_actions(self) -> None:
        add = self.controls.add
        self.controls.separate()
        add("how", "How to read it", self.toggle_how, key="I", button="info", checkable=True)
        self.controls.separate()
        for kind in ("PNG", "SVG", "CSV"):
            add(f"export-{kind.lower()}", f"Export {kind}…", lambda kind=kind: self.choose_export(kind.lower()))
        add("copy-data", "Copy data", self.copy_data, hint="Ctrl+C")
        add("copy-image", "Copy image", self.copy_image, hint="Ctrl+Shift+C")
        for button in self.controls.buttons:
            button.installEventFilter(self)

    def toggle_how(self) -> None:
        """Show or hide how to read the figure."""
        self.how.setVisible(self.how.isHidden() and bool(self.note()))
        self.controls.check("how", not self.how.isHidden())

    def _write_frame(self) -> None:
        title, note = self.title(), self.note()
        self.heading.say(title)
        self.heading.setToolTip(f"{title}\n\n{note}" if note else title)
        self.how.setText(note)
        self.controls.allow("how", bool(note))
        if not note:
            self.how.hide()
        self.setAccessibleName(title)
        self.content.setAccessibleName(f"{title}, figure" if title else "Figure")
        self.content.setAccessibleDescription(note)
        self.hint.setText(self.empty_hint)

    def dress(self, look: Theme) -> None:
        """Take the theme's colours."""
        colours = colours_for_qt(look)
        colours.setColor(QPalette.ColorRole.Window, look.canvas)
        self.setPalette(colours)
        self.controls.setPalette(colours)
        for label in (self.how, self.reading, self.hint):
            muted = QPalette(colours)
            muted.setColor(QPalette.ColorRole.WindowText, look.muted)
            label.setPalette(muted)
        self.controls.dress(look)

    def _theme_changed(self) -> None:
        self._stale = True
        self.workbench.painter.mark(self)

    def header_top(self) -> int:
        """Where the controls stand, from the top."""
        return max(self.heading.geometry().center().y() - self.controls.height() // 2 + 1, 0)

    # ---- controls come and go

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.show_controls(True)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.show_controls(False)

    def show_controls(self, wanted: bool) -> None:
        """Show the controls, or hide them unless they are in use."""
        focus = QApplication.focusWidget()
        inside = focus is not None and self.isAncestorOf(focus)
        shown = wanted or inside or self.controls.menu.isVisible()
        if shown:
            self.controls.arrange()
        self.controls.setVisible(shown)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.FocusIn:
            self.show_controls(True)
        elif event.type() == QEvent.Type.FocusOut:
            self.show_controls(self.underMouse())
        return False

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.controls.isVisible():
            self.controls.arrange()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.controls.menu.popup(event.globalPos())

    # ---- keys

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {
            Qt.Key.Key_Left: (-1, 0),
            Qt.Key.Key_Right: (1, 0),
            Qt.Key.Key_Up: (0, -1),
            Qt.Key.Key_Down: (0, 1),
        }
        key = Qt.Key(event.key())
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy_data()
        elif key == Qt.Key.Key_C and event.modifiers() == _CONTROL | _SHIFT:
            self.copy_image()
        elif key in steps and event.modifiers() & _SHIFT:
            self.pan(*steps[key])
        elif key in steps:
            self.move_selection(*steps[key])
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(1.25)
        elif key == Qt.Key.Key_Minus:
            self.zoom(1 / 1.25)
        elif key == Qt.Key.Key_Escape:
            self.unlock()
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.activate()
        elif key == Qt.Key.Key_E and not event.modifiers():
            self.show_controls(True)
            self.controls.more.showMenu()
        else:
            super().keyPressEvent(event)

    # ---- out of the window

    def choose_export(self, kind: str) -> None:
        """Ask where to and write the figure there."""
        figure = self.exported()
        if figure is None:
            return
        name = re.sub(r"[^\w]+", "-", figure.title.lower()).strip("-")[:60] or figure.kind
        folder = Path(self.workbench.settings.folder) if self.workbench.settings.folder else Path.home()
        path, _ = QFileDialog.getSaveFileName(
            self, f"Export {kind.upper()}", str(folder / f"{name}.{kind}"), f"{kind.upper()} (*.{kind})"
        )
        if path:
            chosen = Path(path)
            self.export_to(chosen if chosen.suffix.lower() == f".{kind}" else Path(f"{path}.{kind}"))

    def export_to(self, path: Path) -> None:
        """Write the figure as it is shown to ``path``, in the background; a message says when it is there."""
        figure = self.exported()
        if figure is not None:
            # Papers are white: what is exported does not follow the theme of the window.
            exporter(self.workbench).write(figure, path, "light", self.camera())

    def copy_image(self) -> None:
        """Put a picture of the view on the clipboard, as it is seen."""
        shown = self.controls.isVisible()
        self.controls.hide()
        picture = self.grab()
        self.controls.setVisible(shown)
        QGuiApplication.clipboard().setPixmap(picture)
        self.workbench.message.emit("info", "The picture is on the clipboard.", "")

    def copy_data(self) -> None:
        """Put the numbers on the clipboard: tab-separated for spreadsheets, and as CSV."""
        figure = self.exported()
        if figure is None:
            return
        header, rows = table(figure)
        taken = [list(row) for row in islice(rows, MOST_COPIED + 1)]
        if len(taken) > MOST_COPIED:
            said = (
                f"“{figure.title}” has more than {MOST_COPIED:,} rows, too many for the clipboard; export CSV instead."
            )
            self.workbench.message.emit("warning", said, "")
            return
        data = QMimeData()
        data.setText(_written([header, *taken], "\t"))
        data.setData("text/csv", _written([header, *taken], ",").encode("utf-8", "backslashreplace"))
        QGuiApplication.clipboard().setMimeData(data)
        rows_ = f"{len(taken):,} {'row' if len(taken) == 1 else 'rows'}"
        self.workbench.message.emit("info", f"{rows_} on the clipboard.", "")


def _written(rows: list[list[str]], delimiter: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()
