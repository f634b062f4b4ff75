"""The small widgets that panels are composed of."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QWidget

from app.panels.markdown import plain
from app.panels.parts import Notice, ResponsiveGrid
from app.panels.rows import Rows, RowsView


def grid_of(qtbot, wide: list[bool], width: int) -> tuple[ResponsiveGrid, list[QWidget]]:
    grid = ResponsiveGrid(260, 3)
    qtbot.addWidget(grid)
    tiles = [QWidget() for _ in wide]
    for tile in tiles:
        tile.setFixedHeight(50)
    grid.set_tiles(list(zip(tiles, wide, strict=True)))
    grid.resize(width, 600)
    grid.show()
    return grid, tiles


@pytest.mark.parametrize(("width", "columns"), [(200, 1), (540, 2), (900, 3), (2000, 3)])
def test_tiles_stand_in_as_many_columns_as_fit(qtbot, width: int, columns: int) -> None:
    grid, tiles = grid_of(qtbot, [True, False, False, False], width)
    qtbot.waitUntil(lambda: grid.columns == columns)
    qtbot.waitUntil(lambda: tiles[0].width() == grid.width(), timeout=2000)


def test_the_last_row_is_filled_and_four_tiles_make_two_rows_of_two(qtbot) -> None:
    grid, tiles = grid_of(qtbot, [False, False, False, False, True], 1000)
    qtbot.waitUntil(lambda: tiles[2].y() > tiles[1].y())
    assert tiles[0].y() == tiles[1].y()
    assert tiles[2].y() == tiles[3].y()
    grid.set_tiles([(tile, False) for tile in tiles[:3]])
    assert not tiles[3].isVisible()
    grid.resize(600, 600)
    qtbot.waitUntil(lambda: tiles[2].width() == grid.width())


def test_a_notice_hides_what_it_has_not_and_toggles_its_details(qtbot) -> None:
    notice = Notice("error")
    qtbot.addWidget(notice)
    notice.say("It failed.", "Traceback …")
    assert notice.isVisible()
    assert not notice._details.isVisible()
    qtbot.mouseClick(notice._more, Qt.MouseButton.LeftButton)
    assert notice._details.isVisible()
    notice.say("It failed otherwise.")
    assert not notice._more.isVisible()
    assert not notice._details.isVisible()
    notice.say("")
    assert not notice.isVisible()


def test_chosen_rows_are_copied_as_a_spreadsheet_reads_them(qtbot) -> None:
    model = Rows(["Name", "Value"])
    view = RowsView(model, "Numbers")
    qtbot.addWidget(view)
    model.set_rows([["a", "1"], ["b", "2"], ["c", "3"]])
    view.show()
    view.selectRow(1)
    qtbot.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "b\t2"
    high = view.height()
    model.set_rows([["a", "1"]])
    assert view.height() < high


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (
            "Does it hold a **belief** about *what\ngenerates* the tokens?",
            "Does it hold a belief about what generates the tokens?",
        ),
        ("The output of `a * b` is 2*3", "The output of a * b is 2*3"),
    ],
)
def test_words_of_a_help_page_stand_on_a_card_without_marks(written: str, read: str) -> None:
    assert plain(written) == read
