"""What holds for the view of each kind."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication, QWheelEvent
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QFileDialog, QLineEdit, QWidget

from app import theme as themes
from app.views import VIEWS, make_view
from app.views.exporting import exporter
from engine.figures.kinds import KINDS
from engine.figures.palette import rgb
from tests.app.views.conftest import pixels, settle
from tests.figure_samples import SAMPLES, bare


def test_each_kind_has_a_view() -> None:
    assert set(VIEWS) == set(KINDS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_view_shows_title_note_and_something_of_its_data(name: str, show: Any) -> None:
    figure = SAMPLES[name]()
    view = show(figure)
    assert view.heading.whole == figure.title
    assert view.how.text() == figure.note
    assert view.accessibleName() == figure.title
    assert view.content.accessibleDescription() == figure.note
    inner = pixels(view.content)
    canvas = np.asarray(rgb(themes.theme("light").source.canvas))
    assert (inner != canvas).any(axis=-1).mean() > 0.005


@pytest.mark.parametrize("name", SAMPLES)
def test_switching_the_theme_recolours_everything(name: str, show: Any, bench: Any, qtbot: Any) -> None:
    view = show(SAMPLES[name]())
    bench.theme = themes.theme("dark")
    themes.apply(QApplication.instance(), bench.theme)
    bench.theme_changed.emit()
    settle(qtbot, view)
    seen = pixels(view)
    assert tuple(seen[2, 2]) == rgb(bench.theme.source.canvas)
    white = (seen == 255).all(axis=-1).mean()
    assert white < 0.02, "something kept the light canvas"


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_figure_shows_a_hint_instead(kind: str, show: Any) -> None:
    view = show(bare(kind, 0))
    assert view.hint.isVisible()
    assert len(view.hint.text()) > 20
    assert not view.content.isVisible()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 4])
def test_a_figure_of_nothing_but_nan_is_drawn_without_a_number(kind: str, size: int, show: Any, qtbot: Any) -> None:
    view = show(bare(kind, size))
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Return, Qt.Key.Key_Plus, Qt.Key.Key_Escape):
        qtbot.keyClick(view, key)
    said = f"{view.reading.whole} {view.hint.text() if view.hint.isVisible() else ''}"
    assert " 0 " not in said


@pytest.mark.parametrize("name", SAMPLES)
def test_every_control_has_an_accessible_name_and_a_hint(name: str, show: Any) -> None:
    view = show(SAMPLES[name]())
    view.show_controls(True)
    kinds = (QAbstractButton, QComboBox, QLineEdit)
    controls = [child for child in view.findChildren(QWidget) if isinstance(child, kinds)]
    named = [child for child in controls if not child.objectName().startswith("qt_")]
    assert named
    for control in named:
        if isinstance(control.parent(), QLineEdit | QComboBox) or control.parent() is getattr(view, "grid", 0):
            continue
        assert control.accessibleName(), control
    assert view.controls.accessibleName()
    for action in view.controls.menu.actions():
        assert action.text() or action.isSeparator()


@pytest.mark.parametrize("name", SAMPLES)
def test_controls_appear_with_the_focus_and_can_be_reached_by_tab(name: str, show: Any, qtbot: Any) -> None:
    view = show(SAMPLES[name]())
    view.activateWindow()
    qtbot.waitUntil(view.isActiveWindow)
    view.show_controls(False)
    target = view.content.focusProxy() or view.content
    target.setFocus(Qt.FocusReason.TabFocusReason)
    assert view.controls.isVisible()
    reached = set()
    for _ in range(30):
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        reached.add(QApplication.focusWidget())
    visible = {button for button in view.controls.buttons if button.isVisible() and button.isEnabled()}
    assert visible <= reached


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - {"big_map"}))
def test_exports_and_copies(name: str, show: Any, qtbot: Any, bench: Any, tmp_path: Path) -> None:
    view = show(SAMPLES[name]())
    said: list[tuple[str, str]] = []
    bench.message.connect(lambda level, text, _: said.append((level, text)))
    paths = [tmp_path / f"figure.{suffix}" for suffix in ("png", "svg", "csv")]
    for path in paths:
        view.export_to(path)
    qtbot.waitUntil(lambda: len(said) == 3, timeout=60_000)
    assert [level for level, _ in said] == ["good"] * 3
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in paths[1].read_text()
    rows = list(csv.reader(io.StringIO(paths[2].read_text())))
    view.copy_data()
    pasted = QGuiApplication.clipboard().mimeData()
    assert list(csv.reader(io.StringIO(pasted.text()), delimiter="\t")) == rows
    assert bytes(pasted.data("text/csv").data()).decode() == paths[2].read_text()
    view.copy_image()
    picture = QGuiApplication.clipboard().image()
    assert (picture.width(), picture.height()) == (view.width(), view.height())
    qtbot.waitUntil(lambda: exporter(bench)._thread is None)


def test_a_failed_export_is_said_in_a_sentence(show: Any, qtbot: Any, bench: Any, tmp_path: Path) -> None:
    view = show(SAMPLES["loss"]())
    said: list[tuple[str, str]] = []
    bench.message.connect(lambda level, text, _: said.append((level, text)))
    (tmp_path / "file").write_text("")
    view.export_to(tmp_path / "file" / "figure.csv")
    qtbot.waitUntil(lambda: bool(said), timeout=60_000)
    assert said[0][0] == "error"
    assert "figure.csv" in said[0][1]
    qtbot.waitUntil(lambda: exporter(bench)._thread is None)


def test_the_export_action_asks_where_to_and_adds_the_extension(
    show: Any, qtbot: Any, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = show(SAMPLES["loss"]())
    asked: list[str] = []

    def choose(_: QWidget, title: str, path: str, kinds: str) -> tuple[str, str]:
        asked.append(path)
        return str(tmp_path / "mine"), kinds

    monkeypatch.setattr(QFileDialog, "getSaveFileName", staticmethod(choose))
    with qtbot.waitSignal(bench.message, timeout=60_000):
        view.controls.action("export-csv").trigger()
    assert (tmp_path / "mine.csv").exists()
    assert asked[0].endswith("loss-of-the-tiny-language-model.csv")
    qtbot.waitUntil(lambda: exporter(bench)._thread is None)


def test_too_much_for_the_clipboard_is_said(show: Any, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.views.base.MOST_COPIED", 100)
    view = show(SAMPLES["loss"]())
    said: list[str] = []
    bench.message.connect(lambda level, text, _: said.append(f"{level}: {text}"))
    view.copy_data()
    assert said[0].startswith("warning: “Loss of the tiny language model” has more than 100 rows")


@pytest.mark.parametrize("name", ["loss", "lens", "strip", "latents", "attention"])
def test_keys_toggle_how_to_read_it(name: str, show: Any, qtbot: Any) -> None:
    figure = SAMPLES[name]()
    view = show(figure)
    assert view.how.isHidden()
    view.activateWindow()
    qtbot.waitUntil(view.isActiveWindow)
    view.controls.action("how").trigger()
    assert view.how.isVisible() == bool(figure.note)


def test_single_keys_work_while_the_plot_has_the_focus(show: Any, qtbot: Any) -> None:
    view = show(SAMPLES["family"]())
    view.activateWindow()
    qtbot.waitUntil(view.isActiveWindow)
    view.plot.setFocus()
    qtbot.keyClick(view.plot, Qt.Key.Key_Y)
    assert view.log["y"]
    qtbot.keyClick(view.plot, Qt.Key.Key_L)
    assert view.legend.isHidden()
    qtbot.keyClick(view.plot, Qt.Key.Key_I)
    assert view.how.isVisible()
    settle(qtbot, view)


def test_the_bar_of_a_narrow_view_holds_only_its_menu(show: Any) -> None:
    view = show(SAMPLES["loss"](), 260, 190)
    view.show_controls(True)
    assert [button for button in view.controls.buttons if button.isVisible()] == [view.controls.more]
    assert view.controls.geometry().right() <= view.width()


def test_the_wheel_scrolls_the_page_until_the_plot_has_the_focus(show: Any, qtbot: Any) -> None:
    view = show(SAMPLES["loss"]())

    def turn(modifier: Qt.KeyboardModifier) -> bool:
        middle = view.plot.viewport().rect().center()
        event = QWheelEvent(
            middle.toPointF(), view.plot.mapToGlobal(middle).toPointF(), QPoint(), QPoint(0, 120),
            Qt.MouseButton.NoButton, modifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        before = view.plot.box.viewRange()[0][:]
        QApplication.sendEvent(view.plot.viewport(), event)
        return bool(view.plot.box.viewRange()[0] != before)

    view.heading.setFocus()
    view.plot.clearFocus()
    assert not turn(Qt.KeyboardModifier.NoModifier)
    assert turn(Qt.KeyboardModifier.ControlModifier)
    view.activateWindow()
    qtbot.waitUntil(view.isActiveWindow)
    view.plot.setFocus()
    assert turn(Qt.KeyboardModifier.NoModifier)


def test_closing_a_view_leaves_nothing_that_the_painter_or_the_theme_would_touch(bench: Any, qtbot: Any) -> None:
    view = make_view(SAMPLES["loss"](), bench)
    view.show()
    settle(qtbot, view)
    bench.painter.mark(view)
    view.close()
    view.deleteLater()
    QApplication.sendPostedEvents(None, 52)  # DeferredDelete
    bench.theme_changed.emit()
    qtbot.waitUntil(lambda: not bench.painter.active)
