"""Heat maps and grids of pictures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt

from app.views.maps import fitting
from engine.figures.cells import cell_table, levels
from engine.figures.kinds import Axis, Heatmap, Images
from engine.figures.palette import palette, rgb
from tests.app.views.conftest import click, click_data, hover, hover_data, settle
from tests.figure_samples import SAMPLES


def heatmap(values: Any, **more: Any) -> Heatmap:
    values = np.asarray(values, dtype=np.float64)
    given: dict[str, Any] = {
        "title": "t",
        "x_axis": Axis("Token"),
        "y_axis": Axis("Layer"),
        "value_axis": Axis("Norm", "u"),
        "values": values,
        "x": np.arange(values.shape[1]),
        "y": np.arange(values.shape[0]),
    }
    return Heatmap(**{**given, **more})


def test_the_picture_holds_an_index_for_each_value_and_the_table_its_colours(show: Any) -> None:
    view = show(heatmap([[0.0, 1.0], [0.5, np.nan]]))
    np.testing.assert_array_equal(view.items.image.image, [[1, 255], [128, 0]])
    np.testing.assert_array_equal(view.items.image.lut, cell_table("light", False))
    assert tuple(view.items.image.levels) == (0, 255)
    assert (view.bar.levels.low, view.bar.levels.high) == (0, 1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_cells_are_seen_in_their_colours_with_missing_ones_grey(theme: str, show: Any, bench: Any) -> None:
    from app import theme as themes

    bench.theme = themes.theme(theme)
    view = show(heatmap([[-2.0, 0.0], [np.nan, 2.0]], diverging=True))
    image = view.plot.viewport().grab().toImage()

    def colour(row: int, column: int) -> tuple[int, ...]:
        return tuple(image.pixelColor(view.plot.to_widget(column, row).toPoint()).getRgb()[:3])

    look = palette(theme)
    assert colour(0, 1) == rgb(look.canvas), "zero is not the canvas"
    assert colour(1, 0) == rgb(look.missing)
    assert colour(0, 0) == rgb(look.diverging[0])
    assert colour(1, 1) == rgb(look.diverging[-1])
    assert "1 cell not finite (grey)" in view.reading.whole


def test_a_few_outliers_do_not_flatten_the_map_and_are_said(show: Any, qtbot: Any) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (60, 60))
    values[3, 4] = 1000
    view = show(heatmap(values))
    assert view.bar.levels.high <= 1.0
    assert view.bar.levels.above >= 1
    assert "beyond the colour scale" in view.reading.whole
    view.controls.action("range").trigger()
    settle(qtbot, view)
    assert view.bar.levels.high == 1000
    assert "beyond" not in view.reading.whole


def test_levels_of_smooth_data_are_its_extremes() -> None:
    values = np.linspace(-1, 3, 1000)
    assert (levels(values).low, levels(values).high) == (-1, 3)
    assert (levels(values, diverging=True).low, levels(values, diverging=True).high) == (-3, 3)


def test_hover_names_row_column_word_and_value(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["lens"]()
    view = show(figure)
    with qtbot.waitSignal(view.cell_hovered) as hovered:
        hover_data(view, 4.2, 12.3)
    assert hovered.args == [12, 4]
    said = f"Layer 11 · Token ␣France · “{figure.text[12, 4].replace(' ', '␣')}” · Probability"
    assert view.reading.whole.startswith(said)
    assert f"{figure.values[12, 4]:.4g}" in view.reading.whole
    assert view.items.hovered.isVisible()


def test_hover_on_a_missing_cell_says_so(show: Any) -> None:
    view = show(SAMPLES["patching"]())
    hover_data(view, 2, 3)
    assert view.reading.whole.endswith("Logit difference restored not a number share")


@pytest.mark.parametrize("origin", ["upper", "lower"])
def test_rows_stand_where_the_origin_says(origin: str, show: Any) -> None:
    view = show(heatmap([[1.0], [2.0], [3.0]], origin=origin, y=np.asarray(["a", "b", "c"])))
    first, last = (view.plot.to_widget(0, row).y() for row in (0, 2))
    assert (first < last) == (origin == "upper")
    inner = view.plot.inner()
    words = {text: box.center().y() for box, _, text in view.plot.y_axis._word_specs()}
    assert set(words) == {"a", "b", "c"}
    for row, word in enumerate("abc"):
        assert abs(words[word] - (view.plot.to_widget(0, row).y() - inner.top())) < 3


def test_a_click_locks_a_cell_and_arrows_move_it(show: Any, qtbot: Any) -> None:
    view = show(SAMPLES["lens"]())
    with qtbot.waitSignal(view.cell_clicked) as clicked:
        click_data(view, 4, 6)
    assert clicked.args == [6, 4]
    assert view.locked_cell == (6, 4)
    assert view.items.locked.isVisible()
    with qtbot.waitSignal(view.cell_clicked) as moved:
        qtbot.keyClick(view, Qt.Key.Key_Up)
    assert moved.args == [7, 4], "up is towards later layers where row 0 is at the bottom"
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.locked_cell == (7, 5)
    hover_data(view, 0, 0)
    view.leave()
    assert view.reading.whole.startswith("Layer 6 · Token ␣is")
    qtbot.keyClick(view, Qt.Key.Key_Escape)
    assert view.locked_cell is None


def test_arrows_stop_at_the_edge(show: Any, qtbot: Any) -> None:
    view = show(heatmap([[1.0, 2.0]]))
    for _ in range(4):
        qtbot.keyClick(view, Qt.Key.Key_Right)
        qtbot.keyClick(view, Qt.Key.Key_Down)
    assert view.locked_cell == (0, 1)


def test_locking_from_outside_gives_no_signal_and_survives_new_data(show: Any, qtbot: Any) -> None:
    view = show(SAMPLES["lens"]())
    with qtbot.assertNotEmitted(view.cell_clicked):
        view.lock_cell(2, 3)
    assert view.reading.whole.startswith("Layer 1")
    view.set_figure(SAMPLES["lens"]())
    settle(qtbot, view)
    assert view.locked_cell == (2, 3)
    view.set_figure(heatmap([[1.0]]))
    settle(qtbot, view)
    assert view.locked_cell is None


@pytest.mark.parametrize("width", [300, 640, 1500])
def test_tick_words_never_touch(width: int, show: Any) -> None:
    view = show(SAMPLES["lens"](), width, 420)
    for axis in (view.plot.x_axis, view.plot.y_axis):
        boxes = [box for box, _, _ in axis._word_specs()]
        assert len(boxes) >= 3
        assert not any(a.intersects(b) for a, b in pairwise(boxes))


def test_words_are_written_into_cells_that_are_large_enough(show: Any, qtbot: Any) -> None:
    large, small = show(SAMPLES["lens"](), 900, 500), show(SAMPLES["lens"](), 260, 200)

    def inks(view: Any) -> int:
        image = view.plot.viewport().grab().toImage()
        middle, cell = view.plot.to_widget(4, 12), view.plot.pixel()
        wide = int(0.4 / abs(cell[0]))
        row = [image.pixelColor(int(middle.x()) + dx, int(middle.y())).rgb() for dx in range(-wide, wide)]
        return len(set(row))

    assert inks(large) > 2
    assert inks(small) == 1


def test_512_squared_maps_keep_every_cell(show: Any) -> None:
    figure = SAMPLES["big_map"]()
    view = show(figure)
    assert view.items.image.image.shape == (512, 512)
    assert view.items.image.image.dtype == np.uint8
    hover_data(view, 100, 200)
    assert f"{figure.values[200, 100]:.3f}"[:5] in view.reading.whole or "Latent" in view.reading.whole


def test_log_maps_count_what_has_no_logarithm_as_missing(show: Any) -> None:
    view = show(heatmap([[1.0, 10.0, 100.0, 0.0, -1.0]], value_axis=Axis("Count", "", "log")))
    np.testing.assert_array_equal(view.items.image.image, [[1, 128, 255, 0, 0]])
    assert "2 cells not finite or not above 0" in view.reading.whole


# ---- pictures


def middle_of(view: Any, picture: int, row: int, column: int) -> QPointF:
    box = view.tiles.rectangle(picture)
    height, width = view.figure.pixels.shape[1:3]
    return QPointF(box.left() + (column + 0.5) * box.width() / width, box.top() + (row + 0.5) * box.height() / height)


def test_tiles_show_all_pictures_on_one_scale(show: Any) -> None:
    figure = SAMPLES["attention"]()
    view = show(figure)
    boxes = [view.tiles.rectangle(index) for index in range(12)]
    assert all(view.tiles.viewport().rect().contains(box.toRect()) for box in boxes)
    image = view.tiles.picture(3)
    table = cell_table("light", False)
    assert tuple(image.pixelColor(0, 0).getRgb()[:3]) == tuple(table[255].tolist())
    assert tuple(image.pixelColor(16, 0).getRgb()[:3]) == tuple(table[1].tolist())


def test_hover_over_a_tile_reads_the_cell(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["attention"]()
    view = show(figure)
    with qtbot.waitSignals([view.cell_hovered, view.point_hovered]):
        hover(view.tiles, middle_of(view, 5, 9, 4))
    assert view.reading.whole == f"Head 5 · Query ␣Paris · Key ␣France · Attention {figure.pixels[5, 9, 4]:.4g}"


def test_a_click_enlarges_a_picture_and_escape_goes_back(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["attention"]()
    view = show(figure)
    with qtbot.waitSignal(view.point_clicked) as clicked:
        click(view.tiles, middle_of(view, 7, 1, 1))
    assert clicked.args == [7]
    assert view.stack.currentWidget() is view.plot
    assert view.plot.x_axis.words[4] == "␣France"
    hover_data(view, 4, 9)
    assert view.reading.whole.startswith("Head 7 · Query ␣Paris · Key ␣France")
    qtbot.keyClick(view, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert view.large == 8
    qtbot.keyClick(view, Qt.Key.Key_Escape)
    assert view.stack.currentWidget() is view.tiles


def test_pictures_by_keyboard(show: Any, qtbot: Any) -> None:
    view = show(SAMPLES["attention"]())
    qtbot.keyClick(view, Qt.Key.Key_Right)
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.reading.whole == "Head 1"
    qtbot.keyClick(view, Qt.Key.Key_Return)
    assert view.large == 1
    qtbot.keyClick(view, Qt.Key.Key_Down)
    assert view.reading.whole.startswith("Head 1 · Query")


def test_pictures_in_colour_are_shown_as_they_are(show: Any, qtbot: Any) -> None:
    colours = np.zeros((2, 2, 3, 3), dtype=np.uint8)
    colours[1, 0, 2] = (200, 100, 50)
    view = show(Images(title="t", x_axis=Axis("x"), y_axis=Axis("y"), captions=("a", "b"), pixels=colours))
    assert tuple(view.tiles.picture(1).pixelColor(2, 0).getRgb()[:3]) == (200, 100, 50)
    assert not view.bar.isVisible()
    hover(view.tiles, middle_of(view, 1, 0, 2))
    assert view.reading.whole == "b · y 0 · x 2 · red, green, blue 200, 100, 50"
    click(view.tiles, middle_of(view, 1, 0, 2))
    assert view.items.image.image.shape == (2, 3, 3)


def test_many_pictures_scroll(show: Any) -> None:
    pixels = np.random.default_rng(0).normal(size=(200, 8, 8))
    figure = Images(title="t", x_axis=Axis("x"), y_axis=Axis("y"), captions=tuple(map(str, range(200))), pixels=pixels)
    view = show(figure)
    assert view.tiles.verticalScrollBar().maximum() > 0
    assert len(view.tiles._pictures) < 60, "pictures that are not seen were drawn"
    view.tiles.choose(199)
    assert view.tiles.viewport().rect().contains(view.tiles.rectangle(199).toRect())


@pytest.mark.parametrize(("room", "said"), [(200, "1.15 ±0.2 (3)"), (62, "1.15 ±0.2"), (30, "1.15")])
def test_a_cell_has_whole_words_of_its_text_where_one_has_room(qapp: Any, room: int, said: str) -> None:
    metrics = Widths(6)
    assert fitting("1.15 ±0.2 (3)", metrics, room) == said  # type: ignore[arg-type]
    assert fitting("unbroken", metrics, 26) == "unbr"  # type: ignore[arg-type]


class Widths:
    """A font of which every letter is as wide."""

    def __init__(self, wide: int) -> None:
        self.wide = wide

    def horizontalAdvance(self, text: str) -> int:
        return self.wide * len(text)

    def elidedText(self, text: str, mode: Any, room: float) -> str:
        return text[: int(room) // self.wide - 1] + "…"
