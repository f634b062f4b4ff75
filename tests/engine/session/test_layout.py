"""The file itself, read with nothing but h5py: what other people's scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from engine.figures.kinds import Axis, Heatmap, Scatter, Table
from engine.runs.recording import RecordingWriter
from engine.session import Session
from tests.engine.session.making import lines, record, saved, with_checkpoint


def test_the_root_says_what_it_is(tmp_path: Path) -> None:
    with h5py.File(saved(tmp_path / "a.superscope")) as file:
        assert file.attrs["format"] == "superscope-session"
        assert file.attrs["version"] == 1
        assert file.attrs["title"] == "Made"
        assert file.attrs["app_version"]
        assert isinstance(float(file.attrs["created"]), float)
        assert {"models", "corpora", "activations", "dictionaries", "runs", "notes", "layout"} <= set(file)


def test_a_run_has_its_attributes_metrics_figures_and_arrays_where_the_layout_says(tmp_path: Path) -> None:
    kept = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = saved(tmp_path / "a.superscope", kept={"components": kept}, figures={"spectrum": lines()})
    with h5py.File(path) as file:
        run = file["runs/pca-spectrum-1"]
        assert run.attrs["experiment"] == "pca-spectrum"
        assert json.loads(run.attrs["parameters"]) == {"model": "demo", "tokens": 1000}
        assert json.loads(run.attrs["environment"]) == {}
        assert run.attrs["state"] == "finished"
        assert run.attrs["seed"] == 3
        assert run.attrs["ended"] - run.attrs["started"] == 1
        assert run.attrs["error"] == ""
        loss = run["metrics/loss"]
        assert loss.dtype == np.float64
        assert loss[:].tolist() == [[0, 1, 0], [1, 0.5, 0.5], [2, 1 / 3, 1], [3, 0.25, 1.5]]
        figure = run["figures/spectrum"]
        assert figure.attrs["kind"] == "lines"
        assert json.loads(figure.attrs["spec"])["y_axis"] == {"label": "Loss", "unit": "nats", "scale": "linear"}
        assert figure["y"][:].tolist() == [[0, 1, 4, 9, 16]]
        assert run["kept/components"].dtype == np.float32
        assert np.array_equal(run["kept/components"], kept)
        assert run["kept/components"].attrs["unit"] == "nats"


def test_a_run_that_has_not_begun_has_every_attribute_of_the_layout(tmp_path: Path) -> None:
    with Session.create() as session:
        session.add_run("pca-spectrum", {})
        session.save(tmp_path / "a.superscope").wait()
    with h5py.File(tmp_path / "a.superscope") as file:
        attributes = dict(file["runs/pca-spectrum-1"].attrs)
    assert {"experiment", "parameters", "state", "seed", "started", "ended", "environment", "error"} <= set(attributes)
    assert np.isnan(attributes["started"])
    with Session.open(tmp_path / "a.superscope") as session:
        assert session.run("pca-spectrum-1").started is None


def test_what_we_write_is_plain_contiguous_and_unfiltered(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.superscope",
        kept={"large": np.zeros(2_000_000), "small": np.zeros(3), "words": np.array(["a", "é"])},
        figures={"spectrum": lines()},
        more=with_checkpoint,
    )
    seen = []

    def look(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            seen.append(name)
            assert item.chunks is None, name
            assert item.id.get_create_plist().get_nfilters() == 0, name
            assert not item.is_virtual, name
            assert not item.external, name

    with h5py.File(path) as file:
        file.visititems(look)
    assert len(seen) > 8


def test_figures_store_each_array_under_its_name(tmp_path: Path) -> None:
    numbers, x = Axis("Value", "nats"), Axis("x")
    figures = {
        "scatter": Scatter(
            title="s", x_axis=x, y_axis=x, points=np.zeros((2, 2)), value=[1, 2], label=["a", "ü"],
            columns=np.ones((2, 3)), column_names=("p", "q", "r"),
        ),
        "map": Heatmap(
            title="h", x_axis=x, y_axis=x, value_axis=numbers, values=np.zeros((1, 2)), x=["a", "b"], y=[0],
            text=[["Paris", "東京"]],
        ),
        "table": Table(title="t", axes=(x, numbers), columns=(np.array(["a", "b"]), np.array([1.5, 2.5]))),
    }  # fmt: skip
    with h5py.File(saved(tmp_path / "a.superscope", figures=figures)) as file:
        stored = file["runs/pca-spectrum-1/figures"]
        assert set(stored["scatter"]) == {"points", "value", "label", "columns"}
        assert stored["scatter/label"].asstr()[:].tolist() == ["a", "ü"]
        assert h5py.check_string_dtype(stored["scatter/label"].dtype).encoding == "utf-8"
        assert stored["map/text"].asstr()[:].tolist() == [["Paris", "東京"]]
        assert set(stored["table"]) == {"column-0", "column-1"}
        assert stored["table/column-1"][:].tolist() == [1.5, 2.5]


def test_things_lie_in_their_sections_and_a_models_arrays_under_weights(tmp_path: Path) -> None:
    vocabulary = [f"word {i}" for i in range(20_000)]

    def make(writer: RecordingWriter) -> None:
        writer.produced("models", "toy-1", {"reference": "toy:t-1", "vocabulary": vocabulary}, {"W.0": np.eye(3)})
        writer.produced(
            "dictionaries", "d-1", {"config": {"k": 3}}, {"W_enc": np.eye(2), "features/density": np.ones(2)}
        )

    path = saved(tmp_path / "a.superscope", more=make)
    with h5py.File(path) as file:
        assert file["models/toy-1"].attrs["reference"] == "toy:t-1"
        assert np.array_equal(file["models/toy-1/weights/W.0"], np.eye(3))
        assert "vocabulary" not in file["models/toy-1"].attrs  # more than 64 KB of JSON is a dataset
        assert json.loads(file["models/toy-1/vocabulary"].asstr()[()]) == vocabulary
        assert json.loads(file["dictionaries/d-1"].attrs["config"]) == {"k": 3}
        assert file["dictionaries/d-1/features/density"][:].tolist() == [1, 1]
    with Session.open(path) as session:
        assert session.things("models")[0].attributes["vocabulary"] == vocabulary
        assert session.thing_array_names("models", "toy-1") == ["W.0"]
        assert session.thing_array_names("dictionaries", "d-1") == ["W_enc", "features/density"]
        assert np.array_equal(session.thing_array("dictionaries", "d-1", "features/density"), [1, 1])


def test_notes_layout_and_checkpoint_are_where_the_layout_says(tmp_path: Path) -> None:
    session = Session.create()
    record(session, state="stopped", more=with_checkpoint)
    session.set_notes("# Ünïcode\n")
    session.set_layout({"tabs": ["run:pca-spectrum-1"]})
    session.save(tmp_path / "a.superscope").wait()
    session.close()
    with h5py.File(tmp_path / "a.superscope") as file:
        assert file["notes"].asstr()[()] == "# Ünïcode\n"
        assert json.loads(file["layout"].asstr()[()]) == {"tabs": ["run:pca-spectrum-1"]}
        checkpoint = file["runs/pca-spectrum-1/checkpoint"]
        assert json.loads(checkpoint.attrs["values"]) == {"step": 4, "generator": [1, 2]}
        assert np.array_equal(checkpoint["arrays/weights"], np.arange(6.0).reshape(2, 3))


def test_a_session_written_with_h5py_alone_opens(tmp_path: Path) -> None:
    path = tmp_path / "by hand.superscope"
    with h5py.File(path, "w") as file:
        file.attrs.update(format="superscope-session", version=1, title="By hand", created=1.0, app_version="0")
        run = file.create_group("runs/pca-spectrum-7")
        run.attrs.update(experiment="pca-spectrum", parameters='{"k": 1}', state="finished", seed=0)
        run["metrics/loss"] = np.ones((2, 3))
        run.create_dataset("kept/packed", data=np.arange(100), compression="gzip", shuffle=True)
        run.create_dataset("kept/quick", data=np.arange(100_000), compression="lzf")
        corpus = file.create_group("corpora/c-1")
        corpus.attrs["source"] = np.bytes_(b"stories")  # fixed-length text, and no JSON
        file["notes"] = "Hello"
    with Session.open(path) as session:
        assert session.title == "By hand"
        assert session.notes == "Hello"
        assert session.run("pca-spectrum-7").parameters == {"k": 1}
        assert np.asarray(session.kept("pca-spectrum-7", "packed")).tolist() == list(range(100))
        assert session.kept("pca-spectrum-7", "quick")[7:9].tolist() == [7, 8]
        assert session.things("corpora")[0].attributes["source"] == "stories"
        assert session.add_run("pca-spectrum", {}).id == "pca-spectrum-8"
        session.close(discard=True)


@pytest.mark.parametrize("value", [None, 0, -1.5, True, "", "ü\0", "\ud800", [], {"a": [1, {"b": None}]}, 10**30])
def test_attributes_of_things_come_back_as_they_were(tmp_path: Path, value: object) -> None:
    path = saved(
        tmp_path / "a.superscope", more=lambda writer: writer.produced("corpora", "c", {"odd": value, "n": 1}, {})
    )
    with Session.open(path) as session:
        attributes = session.things("corpora")[0].attributes
        assert attributes.get("odd") == value
        assert attributes["run"] == "pca-spectrum-1"
