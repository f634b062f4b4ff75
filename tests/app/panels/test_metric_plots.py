"""Which metrics are plotted where."""

from __future__ import annotations

from app.panels.metric_plots import plots_of

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
