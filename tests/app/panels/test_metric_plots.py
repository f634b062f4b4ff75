"""Which metrics are plotted where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PySide6.QtWidgets import QWidget

from app.panels.metric_plots import MetricPlots, plots_of

DECLARED = {
    "loss": {"label": "Loss", "unit": "nats/token", "definition": "mean cross-entropy", "scale": "log"},
    "train": {"label": "train", "unit": "share", "group": "accuracy", "definition": "on seen stories"},
    "l0": {"label": "L0"},
    "test": {"label": "test", "unit": "share", "group": "accuracy", "definition": "on new stories"},
}


def test_the_first_declared_metric_is_the_main_plot_whatever_was_logged_first() -> None:
    plots = plots_of(DECLARED, ["l0", "loss"])
    assert [plot.title for plot in plots] == ["Loss", "L0"]
    assert (plots[0].unit, plots[0].scale, plots[0].definition) == ("nats/token", "log", "mean cross-entropy")


def test_metrics_of_a_group_share_a_plot_with_a_definition_each() -> None:
    plots = plots_of(DECLARED, ["loss", "train", "test", "l0"])
    assert [plot.names for plot in plots] == [("loss",), ("train", "test"), ("l0",)]
    assert plots[1].title == "Accuracy"
    assert plots[1].definition == "train: on seen stories\ntest: on new stories"


def test_a_metric_nobody_declared_is_plotted_under_its_own_name() -> None:
    assert plots_of({}, ["zeta", "alpha"])[0].title == "Alpha"
    assert [plot.names for plot in plots_of(DECLARED, ["extra", "l0"])] == [("l0",), ("extra",)]


def test_overlaid_runs_get_a_plot_per_metric() -> None:
    plots = plots_of(DECLARED, ["train", "test"], grouped=False)
    assert [plot.names for plot in plots] == [("train",), ("test",)]


def test_a_curve_whose_name_another_group_has_too_is_named_with_its_group() -> None:
    declared = {
        "shift": {"label": "Method", "group": "Shift", "unit": "nats"},
        "control": {"label": "Random", "group": "Shift"},
        "damage": {"label": "Method", "group": "Damage"},
        "loss": {"label": "f: loss"},
    }
    assert [plot.title for plot in plots_of(declared, ["shift", "damage"])] == ["Shift: Method", "Damage: Method"]
    assert [plot.title for plot in plots_of(declared, ["shift", "control"])] == ["Shift"]
    assert plots_of(declared, ["loss"])[0].title == "f: loss", "f is a function"


class Measured:
    """A workbench that knows metrics only; its plots are recorded instead of drawn."""

    def __init__(self, metrics: dict[str, dict[str, Any]]) -> None:
        self.metrics = metrics

    def metric_names(self, run: str) -> list[str]:
        return sorted(self.metrics[run])

    def metric(self, run: str, name: str) -> Any:
        values = np.asarray(self.metrics[run][name], dtype=float)
        return np.stack([np.arange(len(values)), values, np.arange(len(values))], axis=1)


class Drawn(QWidget):
    """Stands in for a view of curves."""

    has_legend = True

    def set_metric(self, title: str, *given: Any, **more: Any) -> None:
        self.title, self.curves = title, given[3]

    def toggle_legend(self) -> None:
        self.has_legend = not self.has_legend


@pytest.fixture
def plots(qtbot, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MetricPlots]:
    def make(metrics: dict[str, dict[str, Any]]) -> MetricPlots:
        monkeypatch.setattr(MetricPlots, "_make", lambda self: Drawn())
        made = MetricPlots(Measured(metrics))  # type: ignore[arg-type]
        qtbot.addWidget(made)
        made.resize(700, 800)
        made.show()
        made.set_runs([(run, f"called {run}") for run in metrics], DECLARED)
        return made

    return make


def test_the_first_four_plots_of_many_are_a_square_and_fit_a_small_window(plots) -> None:
    made = plots({"r": {name: [1, 2] for name in ("loss", "l0", "train", "extra", "more")}})
    assert [tile.title for tile in made.tiles] == ["Loss", "Train", "L0", "Extra", "More"]
    places = [tile.geometry() for tile in made.tiles[:4]]
    assert {place.x() for place in places[::2]} != {place.x() for place in places[1::2]}
    assert len({place.y() for place in places}) == 2
    assert places[0].height() + places[2].height() <= 430, "what 1280 x 800 leaves below the header"
    few = plots({"r": {name: [1, 2] for name in ("loss", "l0")}})
    assert few.tiles[0].width() == few.width()


def test_a_metric_of_one_value_or_of_undefined_ones_gets_no_plot_until_it_is_a_curve(plots) -> None:
    metrics: dict[str, Any] = {"loss": [1, 2], "once": [3], "undefined": [np.nan, np.nan, 1]}
    made = plots({"r": metrics})
    assert [tile.title for tile in made.tiles] == ["Loss"]
    metrics |= {"once": [3, 4], "undefined": [np.nan, 1, 1]}
    made.refresh()
    assert [tile.title for tile in made.tiles] == ["Loss", "Once", "Undefined"]


def test_the_runs_of_a_family_keep_their_place_in_every_plot_and_share_one_legend(plots) -> None:
    made = plots({"a": {"loss": [1, 2]}, "b": {"loss": [2, 3], "l0": [4, 5]}, "c": {"loss": [1, 1], "l0": [1, 2]}})
    assert [[(name, len(rows)) for name, rows in tile.curves] for tile in made.tiles] == [
        [("called a", 2), ("called b", 2), ("called c", 2)],
        [("called a", 0), ("called b", 2), ("called c", 2)],
    ]
    assert [tile.has_legend for tile in made.tiles] == [True, False]
