"""Tables and token strips."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication

from app.views.table import ranked
from engine.figures.kinds import Axis, Table, TokenStrip
from engine.figures.palette import mixed_shade, palette, rgb
from tests.app.views.conftest import click, hover, settle
from tests.figure_samples import SAMPLES


def table(**columns: Any) -> Table:
    return Table(
        title="t", axes=tuple(Axis(name) for name in columns), columns=tuple(map(np.asarray, columns.values()))
    )


def shown(view: Any, column: int) -> list[str]:
    model = view.model
    return [model.data(model.index(row, column)) for row in range(model.rowCount())]


def cell(view: Any, row: int, column: int) -> QPoint:
    return view.grid.visualRect(view.model.index(row, column)).center()


def test_a_table_shows_its_cells_with_units_in_the_head(show: Any) -> None:
    view = show(SAMPLES["latents"]())
    assert view.model.rowCount() == 300
    assert [view.model.headerData(i, Qt.Orientation.Horizontal) for i in range(5)] == [
        "Latent", "Density (share)", "Largest activation", "Top token", "Alive"]  # fmt: skip
    assert shown(view, 3)[:2] == ["⏎", "␣first"]
    assert shown(view, 4)[0] in ("yes", "no")
    assert view.count.text() == "300 rows"


def test_a_click_on_the_head_sorts_down_then_up_then_not(show: Any) -> None:
    view = show(table(a=[2.0, np.nan, 10.0, -1.0], b=["x", "B", "a", "c"]))
    view.sort_by(0)
    assert shown(view, 0) == ["10", "2", "-1", "not a number"]
    view.sort_by(0)
    assert shown(view, 0) == ["-1", "2", "10", "not a number"]
    view.sort_by(0)
    assert shown(view, 0) == ["2", "not a number", "10", "-1"]
    view.sort_by(1)
    assert shown(view, 1) == ["a", "B", "c", "x"]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32, np.bool_])
def test_sorting_is_exact_and_stable_in_every_dtype(dtype: Any) -> None:
    column = np.random.default_rng(0).integers(0, 5, 200).astype(dtype)
    for descending in (False, True):
        order = ranked(column, descending)
        brute = sorted(range(200), key=lambda i: -int(column[i]) if descending else int(column[i]))
        assert order.tolist() == brute


def test_the_filter_finds_words_and_compares_numbers(show: Any) -> None:
    view = show(table(density=[0.1, 0.5, 0.01], token=[" Paris", " the", "paris"]))
    view.filter.setText("PARIS")
    view.filter.returnPressed.emit()
    assert shown(view, 1) == ["␣Paris", "paris"]
    assert view.count.text() == "2 of 3 rows"
    view.filter.setText("density >= 0.1")
    view.filter.returnPressed.emit()
    assert shown(view, 0) == ["0.1", "0.5"]


def test_typing_in_the_filter_takes_effect_after_a_pause(show: Any, qtbot: Any) -> None:
    view = show(table(token=["a", "b"]))
    view.filter.setFocus()
    qtbot.keyClicks(view.filter, "b")
    qtbot.waitUntil(lambda: shown(view, 0) == ["b"])


def test_selection_follows_sorting_and_is_copied(show: Any, qtbot: Any) -> None:
    view = show(table(a=[3.0, 1.0, 2.0], b=["x", "y\tz", "w"]))
    view.pick_point(1)
    view.sort_by(0)
    assert view.selected_rows() == [1]
    view.copy_data()
    assert QGuiApplication.clipboard().text() == "a\tb\n1.0\ty\tz\n"


def test_clicks_hover_and_keys_tell_the_row_of_the_figure(show: Any, qtbot: Any) -> None:
    view = show(table(a=[3.0, 1.0, 2.0]))
    view.sort_by(0)
    with qtbot.waitSignal(view.point_clicked) as clicked:
        click(view.grid, cell(view, 2, 0))
    assert clicked.args == [1]
    with qtbot.waitSignal(view.point_hovered) as hovered:
        hover(view.grid, cell(view, 1, 0))
    assert hovered.args == [2]
    assert view.reading.whole == "Row 2 · a 2.0"
    view.activateWindow()
    qtbot.waitUntil(view.isActiveWindow)
    view.grid.setFocus()
    with qtbot.waitSignal(view.point_clicked) as moved:
        qtbot.keyClick(view.grid, Qt.Key.Key_Up)
    assert moved.args == [2]


def test_a_million_rows_open_and_sort_at_once(show: Any) -> None:
    count = 1_000_000
    view = show(table(a=np.random.default_rng(0).normal(size=count), b=np.arange(count)))
    start = time.perf_counter()
    view.sort_by(0)
    assert time.perf_counter() - start < 3
    assert view.model.value(0, 0) > view.model.value(1, 0)


def test_new_columns_keep_sorting_and_filter(show: Any, qtbot: Any) -> None:
    view = show(table(a=[3.0, 1.0]))
    view.sort_by(0)
    view.set_figure(table(a=[1.0, 5.0, 4.0]))
    settle(qtbot, view)
    assert shown(view, 0) == ["5", "4", "1"]


# ---- tokens


def strip(tokens: list[str], value: Any = None) -> TokenStrip:
    axis = Axis("Activation") if value is not None else None
    return TokenStrip(title="t", value_axis=axis, tokens=np.asarray(tokens), value=value)


def test_tokens_are_shaded_by_value_in_two_hues_and_missing_ones_are_not(show: Any, bench: Any) -> None:
    value = np.asarray([4.0, -2.0, 0.0, np.nan])
    view = show(strip(["aaaa", "bbbb", "cccc", "dddd"], value))
    image = view.flow.viewport().grab().toImage()
    corners = [view.flow.rectangle(i).bottomLeft().toPoint() + QPoint(2, -2) for i in range(4)]
    seen = [image.pixelColor(place).getRgb()[:3] for place in corners]
    wanted = np.rint(mixed_shade(value, "light", top=4)).astype(int)
    for index in range(3):
        assert tuple(seen[index]) == tuple(wanted[index].tolist())
    assert seen[2] == rgb(palette("light").canvas)
    assert seen[3] != rgb(palette("light").canvas), "a missing value looks like zero"
    assert "full shade at Activation 4 · 1 not finite (hatched)" in view.reading.whole


def test_white_space_is_visible_and_newlines_break_lines(show: Any) -> None:
    view = show(strip(["a", " b", "\n", "\tc", "", "end"]))
    assert view.flow.texts == ["a", "␣b", "⏎", "⇥c", "(empty)", "end"]
    assert view.flow.lines == 2
    assert view.flow.line_of(2) == 0
    assert view.flow.line_of(3) == 1


def test_lines_wrap_at_the_width_and_every_token_is_found_where_it_is_drawn(show: Any, qtbot: Any) -> None:
    tokens = [f" word{i}" for i in range(300)]
    view = show(strip(tokens, np.arange(300.0)))
    flow = view.flow
    for token in range(0, 60, 7):
        box = flow.rectangle(token)
        assert box.left() >= 0
        assert box.right() <= flow.viewport().width()
        assert flow.token_at(box.center().toPoint()) == token
    before = flow.lines
    view.resize(300, 400)
    qtbot.waitUntil(lambda: flow.lines > before)


def test_hover_and_lock_and_arrows(show: Any, qtbot: Any) -> None:
    view = show(strip(["one", " two", "\n", "three", " four"], np.arange(5.0)))
    with qtbot.waitSignal(view.point_hovered) as hovered:
        hover(view.flow, view.flow.rectangle(1).center())
    assert hovered.args == [1]
    assert view.reading.whole == "Position 1 · “␣two” · Activation 1"
    with qtbot.waitSignal(view.point_clicked) as clicked:
        click(view.flow, view.flow.rectangle(4).center())
    assert clicked.args == [4]
    qtbot.keyClick(view, Qt.Key.Key_Up)
    assert view.locked_token == 2, "the newline stands above"
    qtbot.keyClick(view, Qt.Key.Key_Left)
    qtbot.keyClick(view, Qt.Key.Key_Left)
    assert view.locked_token == 0
    qtbot.keyClick(view, Qt.Key.Key_Left)
    assert view.locked_token == 0
    with qtbot.assertNotEmitted(view.point_clicked):
        view.pick_point(3)
    assert view.reading.whole.startswith("Position 3")
    qtbot.keyClick(view, Qt.Key.Key_Escape)
    assert view.locked_token is None


def test_a_hundred_thousand_tokens_paint_only_what_is_seen(show: Any) -> None:
    tokens = [f" t{i % 997}" for i in range(100_000)]
    view = show(strip(tokens, np.random.default_rng(0).normal(size=100_000)))
    flow = view.flow
    assert flow.verticalScrollBar().maximum() > 10_000
    start = time.perf_counter()
    for place in range(0, 100_000, 10_000):
        flow.lock(place)
        flow.viewport().grab()
    assert time.perf_counter() - start < 2
    flow.lock(99_999)
    assert flow.viewport().rect().contains(flow.rectangle(99_999).toRect())


def test_a_token_wider_than_the_view_is_cut(show: Any) -> None:
    view = show(strip(["x" * 500, "y"]), 300, 200)
    assert view.flow.rectangle(0).right() <= view.flow.viewport().width()
    assert view.flow.line_of(1) == 1
