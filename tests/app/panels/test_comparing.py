"""Runs side by side as plain data."""

from __future__ import annotations

import numpy as np

from app.panels.comparing import Ends, difference_table, differing, final_table, legend_names
from engine.runs.recording import RunRecord

CATALOGUE = {
    "train": {
        "metrics": {"loss": {"label": "Loss", "unit": "nats"}, "l0": {"label": "L0"}},
        "parameters": {"properties": {"k": {"default": 32, "unit": "latents"}, "lr": {"default": 0.1}}},
    }
}


def record(number: int, **parameters: object) -> RunRecord:
    return RunRecord(f"train-{number}", "train", dict(parameters), state="finished")


def test_runs_of_a_sweep_are_called_by_what_tells_them_apart() -> None:
    runs = [record(1, k=16, lr=0.1), record(2, k=32, lr=0.1)]
    assert differing(runs) == ["k"]
    assert legend_names(runs, ["Train 1", "Train 2"]) == ["k 16", "k 32"]


def test_runs_of_one_sweep_are_called_by_all_that_it_goes_over() -> None:
    runs = [record(1, k=16, lr=0.1, seed=1), record(2, k=32, lr=0.2, seed=2)]
    assert legend_names(runs, ["a", "b"]) == ["a", "b"], "runs that happen to differ in three places"
    for run in runs:
        run.sweep = "train:k,lr,seed:1"
    assert legend_names(runs, ["a", "b"]) == ["k 16, lr 0.1, seed 1", "k 32, lr 0.2, seed 2"]


def test_runs_with_equal_parameters_and_titles_are_called_by_id() -> None:
    assert legend_names([record(1, k=16), record(2, k=16)], ["Mine", "Mine"]) == ["Mine (train-1)", "Mine (train-2)"]


def test_parameters_that_tell_only_some_runs_apart_do_not_name_them() -> None:
    runs = [record(1, k=16), record(2, k=16), record(3, k=32)]
    assert legend_names(runs, ["a", "b", "c"]) == ["a", "b", "c"]


def test_the_difference_table_leaves_out_what_is_the_same_and_marks_what_is_absent() -> None:
    runs = [record(1, k=16, lr=0.1), record(2, k=32, lr=0.1, seed=3)]
    table = difference_table(runs, ["a", "b"], CATALOGUE)
    rows = list(zip(*(column.tolist() for column in table.columns), strict=True))
    assert rows == [("k", "16 latents", "32 latents"), ("seed", "–", "3")]


def test_a_value_and_its_absence_differ_even_where_the_value_is_none() -> None:
    assert differing([record(1, k=None), record(2)]) == ["k"]


def test_the_final_table_has_a_column_per_metric_and_nan_where_a_run_has_none() -> None:
    runs = [record(1, k=16), record(2, k=32)]
    ends = [Ends(100, {"loss": 0.5, "extra": 1.0}), Ends(float("nan"), {})]
    table = final_table(runs, ["a", "b"], ends, CATALOGUE)
    assert [axis.text() for axis in table.axes] == ["Run", "State", "Step", "Loss (nats)", "extra"]
    np.testing.assert_array_equal(table.columns[2], [100, np.nan])
    np.testing.assert_array_equal(table.columns[3], [0.5, np.nan])


def test_a_choice_is_called_by_its_value_alone() -> None:
    runs = [record(1, kind="topk", k=16), record(2, kind="relu", k=8)]
    assert legend_names(runs, ["a", "b"]) == ["topk, k 16", "relu, k 8"]
    assert legend_names([record(1, kind="topk"), record(2)], ["a", "b"]) == ["topk", "kind –"]
