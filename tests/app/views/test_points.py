"""Scatter plots, histograms, bars and graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt

from app.views import scatter
from engine.figures.cells import cell_table
from engine.figures.kinds import Axis, Bars, Graph, Histogram, Scatter
from engine.figures.palette import series_colour
from engine.figures.points import CAMERA, project
from tests.app.views.conftest import click_data, hover_data, send, settle
from tests.figure_samples import SAMPLES


def points(count: int, **more: Any) -> Scatter:
    values = np.random.default_rng(0).normal(size=(count, 2))
    return Scatter(**{"title": "t", "x_axis": Axis("x"), "y_axis": Axis("y"), "points": values, **more})


# ---- scatter


def test_points_are_drawn_at_their_places_in_the_colours_of_their_values(show: Any) -> None:
    figure = SAMPLES["scatter"]()
    view = show(figure)
    np.testing.assert_array_equal(view.dots.points, figure.points)
    table = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in cell_table("light", False).tolist()]
    assert view.dots.drawn_colours[0] == table[1]
    assert view.dots.drawn_colours[127] == table[255]
    assert view.bar.axis.text() == "Position (tokens)"


def test_hover_names_the_nearest_point_and_its_numbers(show: Any, qtbot: Any) -> None:
    figure = points(3, points=np.asarray([[0.0, 0], [1, 1], [2, 0]]), label=np.asarray([" a", "b\n", "c"]),
                    value=np.asarray([5.0, np.nan, 7]), value_axis=Axis("Norm", "u"))  # fmt: skip
    view = show(figure)
    with qtbot.waitSignal(view.point_hovered) as hovered:
        hover_data(view, 0.01, 0.01)
    assert hovered.args == [0]
    assert view.reading.whole == "␣a · x 0 · y 0 · Norm 5 u"
    hover_data(view, 1, 1)
    assert view.reading.whole == "b⏎ · x 1 · y 1 · Norm not a number u"
    hover_data(view, 1, 0.4)
    assert view.reading.whole == ""


def test_a_click_picks_and_arrows_go_on(show: Any, qtbot: Any) -> None:
    view = show(points(3, points=np.asarray([[0.0, 0], [np.nan, 1], [2, 0]])))
    with qtbot.waitSignal(view.point_clicked) as clicked:
        click_data(view, 0, 0)
    assert clicked.args == [0]
    with qtbot.waitSignal(view.point_clicked) as moved:
        qtbot.keyClick(view, Qt.Key.Key_Right)
    assert moved.args == [2], "a point that is not drawn was picked"
    assert "1 point not finite, left out" in view.idle_text()


def test_any_column_can_be_an_axis_or_the_colour(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["scatter"]()
    view = show(figure)
    assert view.choosers["x"].isVisible()
    assert view.choosers["x"].accessibleName() == "x axis"
    for name, column in (("x", "Component 3"), ("colour", "Component 4")):
        chooser = view.choosers[name]
        chooser.setCurrentIndex(chooser.findText(column))
        chooser.activated.emit(chooser.currentIndex())
    settle(qtbot, view)
    np.testing.assert_array_equal(view.dots.points[:, 0], figure.columns[:, 2])
    assert view.plot.x_axis.meaning.label == "Component 3"
    assert view.bar.axis.label == "Component 4"
    out = view.exported()
    np.testing.assert_array_equal(out.points[:, 0], figure.columns[:, 2])
    np.testing.assert_array_equal(out.value, figure.columns[:, 3])


def test_a_third_axis_makes_a_cloud_that_turns(show: Any, qtbot: Any) -> None:
    view = show(SAMPLES["scatter"]())
    chooser = view.choosers["z"]
    chooser.setCurrentIndex(chooser.findText("Component 3"))
    chooser.activated.emit(chooser.currentIndex())
    settle(qtbot, view)
    assert view.solid
    expected, _ = project(view.shown().points, *CAMERA)
    np.testing.assert_allclose(np.sort(view.dots.points, axis=0), np.sort(expected, axis=0))
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    start = view.plot.viewport().rect().center()
    send(view.plot, send_kind("MouseButtonPress"), start, left, left)
    send(view.plot, send_kind("MouseMove"), start + QPointF(50, 0).toPoint(), none, left)
    send(view.plot, send_kind("MouseButtonRelease"), start, left, none)
    assert view.camera()[0] == pytest.approx(CAMERA[0] - 20)
    settle(qtbot, view)
    turned, _ = project(view.shown().points, *view.camera())
    np.testing.assert_allclose(np.sort(view.dots.points, axis=0), np.sort(turned, axis=0))


def send_kind(name: str) -> Any:
    from PySide6.QtGui import QMouseEvent

    return getattr(QMouseEvent.Type, name)


def test_projection_keeps_lengths_and_looks_along_the_camera() -> None:
    cube = np.asarray([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    for camera in ((0.0, 0.0), (30.0, 20.0), (-120.0, 80.0)):
        seen, depth = project(cube, *camera)
        np.testing.assert_allclose((np.c_[seen, depth] ** 2).sum(axis=1), 3)
    seen, depth = project(cube, 0.0, 0.0)
    np.testing.assert_allclose(seen, cube[:, 1:], atol=1e-12)
    np.testing.assert_allclose(depth, cube[:, 0], atol=1e-12)


def test_turning_by_keyboard_and_hover_in_space(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["cloud"]()
    view = show(figure)
    assert not view.choosers["x"].isVisible()
    qtbot.keyClick(view, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert view.camera() != CAMERA
    settle(qtbot, view)
    hover_data(view, *view._seen[50])
    index = int(view.reading.whole.split(" · ")[0])
    assert np.hypot(*(view._seen[index] - view._seen[50])) < 0.1
    assert "linear" in view.reading.whole


def test_more_points_than_can_be_drawn_become_an_image_of_density(show: Any) -> None:
    figure = points(scatter.MOST + 5000)
    view = show(figure)
    assert not view.dots.isVisible()
    assert view.map.image.isVisible()
    assert view.bar.axis.label == "Points per cell"
    assert "25,000 points drawn as an image of density" in view.reading.whole
    drawn = view.map.image.image
    assert drawn[0, 0] == 0
    assert drawn[110:130, 110:130].mean() > drawn[:40, :40].mean()
    index = int(np.argmin(np.hypot(*(figure.points - [1, 1]).T)))
    hover_data(view, *figure.points[index])
    assert view.reading.whole.startswith("x ")


def test_density_with_values_shows_their_mean(show: Any) -> None:
    place = np.concatenate([np.zeros((15_000, 2)), np.ones((15_000, 2))])
    view = show(points(1, points=place, value=np.repeat([2.0, 4.0], 15_000), value_axis=Axis("Norm")))
    assert view.bar.axis.label == "Mean Norm"
    assert (view.bar.levels.low, view.bar.levels.high) == (2, 4)
    assert view.map.image.image[0, 0] == 1
    assert view.map.image.image[-1, -1] == 255


def test_points_on_log_axes(show: Any, qtbot: Any) -> None:
    view = show(points(3, points=np.asarray([[1.0, 1], [100, 10], [-5, 1]])))
    view.toggle_log("x")
    settle(qtbot, view)
    np.testing.assert_allclose(view.dots.points, [[0, 1], [2, 10]])
    assert "1 point not finite or not above 0, left out" in view.reading.whole


# ---- histogram


def test_steps_have_the_counts_as_heights(show: Any) -> None:
    figure = Histogram(title="t", x_axis=Axis("Norm", "u"), y_axis=Axis("Tokens"), groups=("a", "b"),
                       edges=np.asarray([0, 1, 2, 4.0]), counts=np.asarray([[5, 0, 2], [1, 1, 1]]))  # fmt: skip
    view = show(figure)
    path = view._steps[0].path()
    corners = {(path.elementAt(i).x, path.elementAt(i).y) for i in range(path.elementCount())}
    assert {(0, 5), (1, 5), (1, 0), (2, 0), (2, 2), (4, 2), (4, 0)} <= corners
    hover_data(view, 3, 1)
    assert view.reading.whole == "Norm 2 to 4 u · a tokens 2 · b tokens 1"


def test_samples_are_counted_and_padding_is_not(show: Any) -> None:
    figure = SAMPLES["densities"]()
    view = show(figure)
    assert view.binned.counts.sum(axis=1).tolist() == [9000, 6000]
    assert view.binned.left_out == 0


def test_histogram_by_keyboard_with_log_counts(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["counted"]()
    view = show(figure)
    assert view.log["y"]
    with qtbot.waitSignal(view.point_hovered) as hovered:
        qtbot.keyClick(view, Qt.Key.Key_Right)
    assert hovered.args == [0]
    assert f"tokens {figure.counts[0, 0]:,}" in view.reading.whole
    view.toggle_log("x")
    settle(qtbot, view)
    assert view.exported().x_axis.scale == "log"


def test_violins_are_mirrored_about_their_group_with_the_median_marked(show: Any) -> None:
    figure = SAMPLES["violins"]()
    view = show(figure)
    for group in range(5):
        box = view._steps[group].path().boundingRect()
        assert box.center().x() == pytest.approx(group)
        assert box.width() == pytest.approx(0.84)
        assert view._medians[group].line().y1() == pytest.approx(np.median(figure.samples[group]))
    hover_data(view, 2, float(np.median(figure.samples[2])))
    assert "median" in view.reading.whole
    assert "0 prompts" in view.reading.whole


# ---- bars


def test_bars_reach_their_values_and_negative_ones_have_another_colour(show: Any, bench: Any) -> None:
    figure = Bars(title="t", x_axis=Axis("Head"), y_axis=Axis("Effect", "nats"), label=np.asarray(["a", " b", "c"]),
                  value=np.asarray([2.0, -1.0, np.nan]), low=np.asarray([1.5, -1.5, 0]),
                  high=np.asarray([2.5, -0.5, 0]))  # fmt: skip
    view = show(figure)
    image = view.plot.viewport().grab().toImage()
    inside = [view.plot.to_widget(0.2, 1.0), view.plot.to_widget(1.2, -0.5)]
    seen = [image.pixelColor(place.toPoint()).name().upper() for place in inside]
    assert seen == [series_colour("light", 0), series_colour("light", 1)]
    assert view.plot.x_axis.words == ["a", "␣b", "c"]
    hover_data(view, 1, -0.5)
    assert view.reading.whole == "Head ␣b · Effect -1 nats (-1.5 to -0.5)"
    hover_data(view, 2, 0.1)
    assert "not a number" in view.reading.whole
    view.leave()
    assert "1 value not finite, left out" in view.reading.whole


def test_lying_bars_read_from_the_top(show: Any, qtbot: Any) -> None:
    view = show(SAMPLES["top_logits"]())
    assert view.plot.y_axis.words[0] == "␣Paris"
    assert view.plot.to_widget(0, 0).y() < view.plot.to_widget(0, 7).y()
    hover_data(view, 0.3, 0)
    assert view.reading.whole == "Token ␣Paris · Probability 0.75"
    with qtbot.waitSignal(view.point_clicked) as clicked:
        click_data(view, 0.01, 3)
    assert clicked.args == [3]
    qtbot.keyClick(view, Qt.Key.Key_Down)
    assert view.picked == 4


def test_bars_on_a_log_axis_stand_on_a_power_of_ten(show: Any, qtbot: Any) -> None:
    view = show(SAMPLES["top_logits"]())
    view.toggle_log("y")
    settle(qtbot, view)
    assert view.bars.base == -3
    np.testing.assert_allclose(view.bars.value[0], np.log10(0.75))


# ---- graph


def test_hover_lights_a_node_and_tells_what_it_is_joined_to(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["circuit"]()
    assert isinstance(figure, Graph)
    view = show(figure)
    with qtbot.waitSignal(view.point_hovered) as hovered:
        hover_data(view, *figure.position[2])
    assert hovered.args == [2]
    said = "L5.H3 · from embed: France 0.9 nats, embed: capital 0.4 nats · to mlp 7 0.3 nats"
    assert view.reading.whole == said
    assert view.graph.lit == 2
    halfway = (figure.position[4] + figure.position[5]) / 2
    hover_data(view, *halfway)
    assert view.reading.whole == "mlp 7 → mlp 10 · Direct effect -0.5 nats"


def test_nodes_by_click_and_keyboard(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["circuit"]()
    view = show(figure)
    with qtbot.waitSignal(view.point_clicked):
        click_data(view, *figure.position[0])
    assert view.picked == 0
    qtbot.keyClick(view, Qt.Key.Key_Up)
    assert view.picked == 2


def test_names_of_nodes_do_not_overlap(show: Any) -> None:
    rng = np.random.default_rng(0)
    figure = replace(SAMPLES["circuit"](), nodes=np.asarray([f"node number {i}" for i in range(300)]),
                     position=rng.uniform(0, 1, (300, 2)))  # fmt: skip
    view = show(figure)
    view.plot.viewport().grab()
    assert 10 < len(view.graph.written) < 300
