from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from PySide6.QtCore import Qt

from app.views.lines import CurvesView
from app.views.reduce import lonely, reduced, smoothed
from engine.figures.kinds import Axis, Histogram, Lines
from tests.app.views.conftest import click_data, has_colour, hover_data, settle
from tests.figure_samples import SAMPLES


def drawn(view: Any, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return view._lines[index].getData()


def lines(y: Any, **more: Any) -> Lines:
    y = np.atleast_2d(np.asarray(y, dtype=np.float64))
    values: dict[str, Any] = {
        "title": "t",
        "x_axis": Axis("Step"),
        "y_axis": Axis("Loss", "nats"),
        "series": tuple(f"s{i}" for i in range(len(y))),
        "x": np.arange(y.shape[1]),
        "y": y,
    }
    return Lines(**{**values, **more})


def test_short_curves_are_drawn_point_by_point(show: Any) -> None:
    figure = SAMPLES["family"]()
    view = show(figure)
    for index in range(len(figure.series)):
        x, y = drawn(view, index)
        np.testing.assert_array_equal(x, figure.x[index])
        np.testing.assert_array_equal(y, figure.y[index])


def test_hover_reads_out_the_nearest_point_with_names_and_units(show: Any) -> None:
    figure = SAMPLES["loss"]()
    view = show(figure)
    hover_data(view, 2000, figure.y[0, 2000])
    said = view.reading.whole
    step = int(said.split(" · ")[0].removeprefix("Step ").replace(",", ""))
    assert abs(step - 2000) < 10
    assert f"training {figure.y[0, step]:.4f}".rstrip("0") in said
    assert said.endswith("nats/token")
    hover_data(view, 2000, 100)
    assert view.reading.whole.startswith("Mean cross-entropy")


def test_hover_and_click_tell_the_point(show: Any, qtbot: Any) -> None:
    view = show(lines([3.0, 1.0, 2.0]))
    with qtbot.waitSignal(view.point_hovered) as hovered:
        hover_data(view, 1.1, 1.2)
    assert hovered.args == [1]
    with qtbot.waitSignal(view.point_clicked) as clicked:
        click_data(view, 2, 2)
    assert clicked.args == [2]


def test_hover_on_a_family_names_the_nearest_series_first(show: Any) -> None:
    figure = SAMPLES["family"]()
    view = show(figure)
    hover_data(view, 1500, figure.y[4, 150])
    assert view.reading.whole.startswith(f"Step 1,500 · k = 32 {figure.y[4, 150]:.4}"[:24])
    assert "and 3 more" in view.reading.whole


def test_error_bands_are_read_out_and_drawn(show: Any) -> None:
    figure = SAMPLES["spectrum"]()
    view = show(figure)
    assert view._bands[0].isVisible()
    bounds = view._bands[0].path().boundingRect()
    np.testing.assert_allclose(bounds.top(), np.log10(figure.low[0].min()), rtol=1e-6)
    np.testing.assert_allclose(bounds.bottom(), np.log10(figure.high[0].max()), rtol=1e-6)
    hover_data(view, 1, np.log10(figure.y[0, 9]))
    assert "Component 10" in view.reading.whole
    assert " to " in view.reading.whole


def test_log_axes_show_powers_and_leave_out_what_has_no_logarithm(show: Any, qtbot: Any) -> None:
    view = show(lines([1.0, 10.0, 0.0, -3.0, 1000.0]))
    view.toggle_log("y")
    settle(qtbot, view)
    _, y = drawn(view)
    np.testing.assert_array_equal(y, [0, 1, np.nan, np.nan, 3])
    assert "2 values not finite or not above 0, left out" in view.reading.whole
    ticks = view.plot.y_axis.tickValues(*view.plot.box.viewRange()[1], 300)[0][1]
    assert view.plot.y_axis.tickStrings(ticks, 1, None) == ["1", "10", "100", "1,000"]
    assert view.exported().y_axis.scale == "log"
    view.toggle_log("y")
    settle(qtbot, view)
    assert drawn(view)[1][4] == 1000


def test_missing_values_are_gaps_and_lonely_points_are_dots(show: Any) -> None:
    y = np.full(200, np.nan)
    y[50:100] = 5.0
    y[150] = 7.0
    view = show(lines(y))
    _, shown = drawn(view)
    np.testing.assert_array_equal(np.isnan(shown), np.isnan(y))
    assert view._marks.points.tolist() == [[150.0, 7.0]]
    low, high = view.plot.box.viewRange()[1]
    assert low > 4, "a gap was ranged as zero"
    assert high < 8
    assert "149 values not finite" in view.reading.whole


def test_few_points_are_marked(show: Any) -> None:
    view = show(lines([1.0, 2.0, 3.0]))
    assert len(view._marks.points) == 3


def test_a_million_points_are_thinned_without_losing_a_spike(show: Any, qtbot: Any) -> None:
    y = np.random.default_rng(0).normal(0, 1, 1_000_000)
    y[::1000] = np.nan
    y[123_456], y[765_432] = 50.0, -40.0
    view = show(lines(y))
    x, shown = drawn(view)
    assert len(x) < 5000
    assert np.nanmax(shown) == 50
    assert np.nanmin(shown) == -40
    assert abs(x[np.nanargmax(shown)] - 123_456) < 1_000_000 / 500
    assert np.isfinite(shown).all(), "a column with one NaN lost all its values"
    view.plot.following = False
    view.plot.box.setXRange(123_400, 123_500, padding=0)
    settle(qtbot, view)
    x, shown = drawn(view)
    close = (x >= 123_400) & (x <= 123_500)
    np.testing.assert_array_equal(x[close], np.arange(123_400, 123_501))
    np.testing.assert_array_equal(shown[close], y[123_400:123_501])


def test_reducing_keeps_the_extremes_of_every_column() -> None:
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(0, 10, 50_000))
    y = rng.normal(size=50_000)
    seen_x, seen_y = reduced(x, y, (0, 10), 300)
    width = (10 + 2 * 0.5 * 10) / 600
    column, seen = np.floor((x + 5) / width), np.floor((seen_x + 5) / width)
    for place in np.unique(column)[5:-5:17]:
        np.testing.assert_allclose(seen_y[seen == place].max(), y[column == place].max())
        np.testing.assert_allclose(seen_y[seen == place].min(), y[column == place].min())


def test_reducing_by_position_keeps_the_left_of_a_log_axis() -> None:
    x = np.log10(np.arange(1.0, 1_000_001))
    seen, _ = reduced(x, np.sin(x), (0, 6), 600)
    assert set(x[:30]) <= set(seen.tolist())


def test_unsorted_curves_are_left_alone() -> None:
    x = np.asarray([0.0, 2.0, 1.0] * 5000)
    assert reduced(x, x, (0, 2), 100)[0] is x


def test_smoothing_is_the_mean_of_the_last_values_and_skips_missing_ones() -> None:
    y = np.asarray([1.0, 3.0, np.nan, 5.0, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(smoothed(y, 3), [1, 2, 2, 4, 5, 5, np.nan])
    assert lonely(np.asarray([1, np.nan, 2, 3, np.nan, 4])).tolist() == [True, False, False, False, False, True]


def test_the_smooth_switch_draws_the_mean_over_the_faint_curve(show: Any, qtbot: Any) -> None:
    figure = SAMPLES["loss"]()
    view = show(figure)
    view.toggle_smooth()
    settle(qtbot, view)
    assert view._raws[0].isVisible()
    np.testing.assert_allclose(np.nanmin(drawn(view)[1]), smoothed(figure.y[0], 80).min(), rtol=1e-9)


def test_the_legend_switches_series_and_the_range_follows(show: Any, qtbot: Any) -> None:
    view = show(lines([[0.0, 1.0], [100.0, 200.0]]))
    assert view.legend.isVisible()
    assert view.legend.names == ["Show s0", "Show s1"]
    view.legend.button(1).click()
    settle(qtbot, view)
    assert not view._lines[1].isVisible()
    assert view.plot.box.viewRange()[1][1] < 2
    view.legend.button(1).click()
    settle(qtbot, view)
    assert view._lines[1].isVisible()
    assert view.plot.box.viewRange()[1][1] > 190


def test_reference_lines_are_drawn_and_in_the_legend_with_their_value(show: Any) -> None:
    view = show(SAMPLES["loss"]())
    assert view._rules[0].isVisible()
    assert view._rules[0].value() == 0.2797
    assert "Show entropy floor (0.2797)" in view.legend.names


def test_arrow_keys_go_from_point_to_point_and_from_series_to_series(show: Any, qtbot: Any) -> None:
    view = show(lines([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.reading.whole.startswith("Step 1 · s0 2")
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.reading.whole.startswith("Step 2 · s0 3")
    qtbot.keyClick(view, Qt.Key.Key_Down)
    assert view.reading.whole.startswith("Step 2 · s1 30")
    with qtbot.waitSignal(view.point_clicked) as clicked:
        qtbot.keyClick(view, Qt.Key.Key_Return)
    assert clicked.args == [2]
    qtbot.keyClick(view, Qt.Key.Key_Escape)
    assert view.reading.whole == ""


def test_zooming_stops_following_until_show_everything(show: Any, qtbot: Any) -> None:
    view = show(lines(np.arange(100.0)))
    qtbot.keyClick(view, Qt.Key.Key_Plus)
    near = view.plot.box.viewRange()
    view.set_figure(lines(np.arange(1000.0)))
    settle(qtbot, view)
    assert view.plot.box.viewRange() == near
    view.controls.action("fit").trigger()
    settle(qtbot, view)
    assert view.plot.box.viewRange()[0][1] > 999


def test_a_chosen_scale_survives_new_data_until_the_figure_asks_for_another(show: Any, qtbot: Any) -> None:
    view = show(lines([1.0, 2.0]))
    view.toggle_log("y")
    view.set_figure(lines([1.0, 2.0, 3.0]))
    assert view.log["y"]
    view.set_figure(lines([1.0, 2.0], y_axis=Axis("Loss", "nats", "log")))
    view.set_figure(lines([1.0, 2.0]))
    assert not view.log["y"]
    settle(qtbot, view)


def test_series_colours_are_seen(show: Any, bench: Any) -> None:
    view = show(lines([[0.0, 0.0], [1.0, 1.0]]))
    for colour in bench.theme.source.series[:2]:
        assert has_colour(view.plot, colour, 100)


# ---- live curves


def rows(count: int, start: float = 0.0) -> np.ndarray:
    steps = np.arange(count, dtype=np.float64)
    return np.stack([steps, start + steps**0.5, steps / 10], axis=1)


def test_curves_grow(show: Any, bench: Any, qtbot: Any) -> None:
    view = CurvesView(bench)
    view.set_metric("Loss", "nats", "Mean loss.", "linear", [("run 1", rows(0))])
    show(view)
    assert view.hint.isVisible()
    assert view.hint.text() == "The curve appears with the first numbers of the run."
    for count in (1, 2, 500):
        view.set_metric("Loss", "nats", "Mean loss.", "linear", [("run 1", rows(count))])
        settle(qtbot, view)
        assert not view.hint.isVisible()
        assert len(drawn(view)[0]) == count
    assert view.plot.box.viewRange()[0][1] > 499
    assert view.heading.whole == "Loss (nats)"
    assert view.plot.y_axis.meaning.text() == "Loss (nats)"
    assert view.note() == "Mean loss."


def test_unchanged_metrics_cost_no_painting(show: Any, bench: Any, qtbot: Any) -> None:
    view = CurvesView(bench)
    view.set_metric("Loss", "", "", "log", [("a", rows(100))])
    show(view)
    before = view.paints
    for _ in range(20):
        view.set_metric("Loss", "", "", "log", [("a", rows(100))])
    assert not bench.painter.waiting
    assert view.paints == before
    assert view.log["y"]


def test_a_sweep_shares_axes_and_can_be_shown_against_time(show: Any, bench: Any, qtbot: Any) -> None:
    view = CurvesView(bench)
    view.set_metric("FVU", "", "", "linear", [("k = 16", rows(50)), ("k = 32", rows(80, 5))])
    show(view)
    assert [len(drawn(view, index)[0]) for index in (0, 1)] == [50, 80]
    assert view.legend.names == ["Show k = 16", "Show k = 32"]
    view.controls.action("time").trigger()
    settle(qtbot, view)
    assert drawn(view, 1)[0][-1] == 7.9
    figure = view.exported()
    assert figure.x_axis.text() == "Time (s)"
    np.testing.assert_array_equal(figure.y[1], rows(80, 5)[:, 1])
    assert np.isnan(figure.y[0, 50:]).all()


def test_nan_in_a_live_metric_is_a_gap(show: Any, bench: Any) -> None:
    view = CurvesView(bench)
    data = rows(100, 10)
    data[40:60, 1] = np.nan
    view.set_metric("Loss", "", "", "linear", [("a", data)])
    show(view)
    assert np.isnan(drawn(view)[1][40:60]).all()
    assert view.plot.box.viewRange()[1][0] > 9


def test_the_rows_of_a_live_buffer_are_copied_when_drawn(show: Any, bench: Any) -> None:
    buffer = rows(100)
    view = CurvesView(bench)
    view.set_metric("Loss", "", "", "linear", [("a", buffer)])
    show(view)
    kept = drawn(view)[1].copy()
    buffer[:] = -1
    np.testing.assert_array_equal(drawn(view)[1], kept)
    assert replace(view.exported(), note="").series == ("a",)


def test_circles_are_round_at_any_size_where_units_are_to_be_equal(show: Any, qtbot: Any) -> None:
    angle = np.linspace(0, 2 * np.pi, 60)
    view = show(lines(np.sin(angle), x=np.cos(angle), equal=True))
    for size in ((640, 400), (500, 700)):
        view.resize(*size)
        settle(qtbot, view)
        across, up = view.plot.pixel()
        assert abs(across / up - 1) < 0.02
        (x0, x1), (y0, y1) = view.plot.box.viewRange()
        assert min(x1 - x0, y1 - y0) < 2.4, "the circle fills the shorter side"


def test_words_that_begin_alike_are_cut_where_they_do_not_differ(show: Any) -> None:
    groups = tuple(f"mean-difference of the rows, template: {word}" for word in ("asked", "talked", "how", "review"))
    samples = np.random.default_rng(0).normal(size=(4, 30))
    figure = Histogram(
        title="t", x_axis=Axis("Slope"), y_axis=Axis("Rows"), groups=groups, samples=samples, violins=True
    )
    words = show(figure).plot.x_axis.shown_words
    assert len(set(words)) == 4
    assert all("…" in word for word in words)


def test_each_of_three_groups_is_named_below_its_violin(show: Any) -> None:
    groups = ("Negative", "Positive", "Negative, steered")
    samples = np.random.default_rng(0).normal(size=(3, 30))
    figure = Histogram(
        title="t", x_axis=Axis("Projection"), y_axis=Axis("Rows"), groups=groups, samples=samples, violins=True
    )
    axis = show(figure).plot.x_axis
    # pyqtgraph hands on ranges such as this one, which is wider than 3 by a rounding.
    axis.range = [-0.6, 2.4000000000000004]
    assert len(axis.shown_words) == 3
