"""The experiment as a person runs it, against scikit-learn on the same activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from engine.figures import Lines, Scatter, Table
from engine.geometry import pca_spectrum as module
from engine.geometry.covariance import Covariance
from engine.geometry.survey import FAR, Survey, projected
from engine.models import capture as capture_module
from engine.models.capture import capture
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording, RunRecord
from engine.text.corpora import open_corpus
from engine.text.tokens import contexts

HOOK = "blocks.1.hook_resid_post"
EXPERIMENT = find("pca-spectrum")


@pytest.fixture
def values(tiny_hf: Path, tmp_path: Path) -> dict[str, Any]:
    text = tmp_path / "words.txt"
    words = ["the", "fox", "dog", "panama", "canal", "man", "plan", "jumps", "0123", "lazy", "\n"]
    text.write_text(" ".join(np.random.default_rng(0).choice(words, size=1_500)))
    return {
        "model": str(tiny_hf), "text": str(text), "hook": HOOK, "tokens": 2_500, "context": 32, "device": "cpu",
        "threads": 1, "seed": 3,
    }  # fmt: skip


def start(folder: Path, values: dict[str, Any], control: Control | None = None) -> RunRecord:
    return execute(EXPERIMENT, check(EXPERIMENT.parameters, values), folder, control=control)


@pytest.fixture
def activations(values, tiny):
    found = contexts(open_corpus(values["text"]), tiny, tokens=2_500, context=32)
    rows = torch.cat([part[HOOK] for _, part in capture(tiny, found.ids, [HOOK])]).numpy()
    return found, rows


def test_the_run_finds_what_scikit_learn_finds(tmp_path, values, activations):
    record = start(tmp_path / "pca-spectrum-1", values)
    assert record.state == "finished", record.traceback
    recording = Recording(tmp_path / "pca-spectrum-1")
    found, rows = activations
    counted = rows[found.counted]
    reference = PCA(svd_solver="full").fit(counted.astype(np.float64))
    np.testing.assert_allclose(recording.kept("variances"), reference.explained_variance_, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(recording.kept("mean"), counted.astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-9)
    alignment = np.abs(np.sum(recording.kept("components") * reference.components_, axis=1))
    np.testing.assert_allclose(alignment[:20], 1, atol=1e-5)
    spectrum = recording.figure("spectrum")
    assert isinstance(spectrum, Lines)
    np.testing.assert_allclose(spectrum.y[0], reference.explained_variance_ratio_, rtol=1e-6, atol=1e-12)
    cumulative = recording.figure("cumulative")
    np.testing.assert_allclose(cumulative.y[:, -1], 1, rtol=1e-9)
    variances = reference.explained_variance_
    ratio = variances.sum() ** 2 / np.square(variances).sum()
    assert recording.metric("participation_ratio")[-1, :2] == pytest.approx([len(counted), ratio], rel=1e-6)
    assert record.facts["tokens"] == len(counted) == 2_500
    assert set(recording.metric_names()) == set(EXPERIMENT.metrics)
    _check_summary(recording.figure("summary"), ratio)
    _check_scatter(recording.figure("scatter"), found, rows, reference)


def _check_summary(table, ratio):
    assert isinstance(table, Table)
    columns = {axis.label: column for axis, column in zip(table.axes, table.columns, strict=True)}
    assert columns["Activations"][0] == pytest.approx(ratio, rel=1e-6)
    low, high = (float(word) for word in columns["95 % interval"][0].split(" to "))
    assert low < ratio < high
    assert columns["Dimensions permuted"][0] > ratio  # correlations are what makes the spectrum narrow
    assert "n = 2,500 tokens" in table.note
    assert "1,000 bootstrap resamples" in table.note


def _check_scatter(scatter, found, rows, reference):
    assert isinstance(scatter, Scatter)
    assert len(scatter.points) == 2_500
    columns = dict(zip(scatter.column_names, scatter.columns.T, strict=True))
    ids = np.asarray(found.ids)[found.counted]
    np.testing.assert_array_equal(columns["Token id"], ids)
    np.testing.assert_array_equal(columns["Position (tokens)"], np.nonzero(found.counted)[1])
    np.testing.assert_array_equal(scatter.value, columns["Position (tokens)"])
    np.testing.assert_allclose(columns["Norm"], np.linalg.norm(rows[found.counted], axis=1), rtol=1e-5)
    expected = reference.transform(rows[found.counted].astype(np.float64))[:, :2]
    np.testing.assert_allclose(np.abs(scatter.points), np.abs(expected), rtol=1e-4, atol=1e-4)
    assert all("⟦" in label and "\n" not in label for label in scatter.label)


def test_labels_show_the_token_in_its_context(values, tiny, activations):
    found, _ = activations
    [label] = module._labels(tiny, found, np.asarray([[2, 10]]))
    ids = np.asarray(found.ids[2]).tolist()
    text = tiny.tokenizer.decode(ids[4:17]).replace("\n", "⏎")
    assert label.replace("⟦", "").replace("⟧", "").strip("…") == text
    assert f"⟦{tiny.tokenizer.decode([ids[10]])}⟧".replace("\n", "⏎") in label
    [first] = module._labels(tiny, found, np.asarray([[2, 1]]))
    assert "<s>" not in first


def test_bos_counts_only_when_asked(tmp_path, values):
    without = start(tmp_path / "a", values)
    included = start(tmp_path / "b", values | {"include_special": True})
    assert without.facts["tokens"] == 2_500
    assert included.facts["tokens"] == 2_500 + included.facts["text"]["contexts"]


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_the_result_does_not_depend_on_the_batch(tmp_path, values, monkeypatch, batch):
    start(tmp_path / "a", values)
    monkeypatch.setattr(module, "BATCH", batch)
    start(tmp_path / "b", values)
    first, second = Recording(tmp_path / "a"), Recording(tmp_path / "b")
    np.testing.assert_allclose(second.kept("variances"), first.kept("variances"), rtol=1e-4, atol=1e-9)
    for row in range(3):
        np.testing.assert_allclose(
            second.figure("spectrum").y[row], first.figure("spectrum").y[row], rtol=1e-3, atol=1e-9
        )


def test_a_stopped_run_keeps_what_it_has_seen(tmp_path, values, monkeypatch):
    control, calls = Control(), []
    real = capture_module._stream

    def stopping(*arguments):
        for part in real(*arguments):
            calls.append(part)
            if len(calls) == 4:
                control.stop()
            yield part

    monkeypatch.setattr(capture_module, "_stream", stopping)
    record = start(tmp_path / "run", values, control)
    assert record.state == "stopped"
    assert record.facts["tokens"] == 4 * 8 * 31
    recording = Recording(tmp_path / "run")
    assert set(recording.figure_names()) == {"spectrum", "cumulative", "scatter", "summary"}
    assert len(recording.figure("scatter").points) == record.facts["tokens"]


def failing(tmp_path, values, monkeypatch, change):
    real = capture_module._stream

    def changed(model, ids, hooks, batch, run):
        for part, rows in real(model, ids, hooks, batch, run):
            change(part, rows[HOOK])
            yield part, rows

    monkeypatch.setattr(capture_module, "_stream", changed)
    record = start(tmp_path / "run", values)
    assert record.state == "failed"
    return record.error


def test_an_activation_that_is_not_finite_names_its_token(tmp_path, values, tiny, activations, monkeypatch):
    def change(part, rows):
        if part.start <= 20 < part.stop:
            rows[20 - part.start, 9, 0] = float("nan")

    token = tiny.tokenizer.decode([int(activations[0].ids[20, 9])])
    error = failing(tmp_path, values, monkeypatch, change)
    assert error.startswith(f"The activation of {HOOK} holds NaN at the token “{token}”")
    assert "position 9 of context 20" in error


def test_positions_that_do_not_count_may_hold_anything(tmp_path, values, monkeypatch):
    real = capture_module._stream

    def changed(*arguments):
        for part, rows in real(*arguments):
            rows[HOOK][:, 0] = float("nan")
            yield part, rows

    monkeypatch.setattr(capture_module, "_stream", changed)
    assert start(tmp_path / "run", values).state == "finished"


def test_constant_activations_are_refused(tmp_path, values, monkeypatch):
    error = failing(tmp_path, values, monkeypatch, lambda part, rows: rows.fill_(2.0))
    assert error.startswith("All 2,500 activations of blocks.1.hook_resid_post are equal")


def test_massive_activations_are_pointed_out(tmp_path, values, monkeypatch):
    real = capture_module._stream

    def changed(*arguments):
        for part, rows in real(*arguments):
            if part.start == 8:
                rows[HOOK][3, 5] *= 1_000
            yield part, rows

    monkeypatch.setattr(capture_module, "_stream", changed)
    start(tmp_path / "run", values)
    warnings = [line["text"] for line in Recording(tmp_path / "run").log() if line["level"] == "warning"]
    assert any("The 10 longest of 2,500 activations hold" in text for text in warnings)


def test_an_unknown_hook_is_refused(tmp_path, values):
    record = start(tmp_path / "run", values | {"hook": "blocks.9.hook_resid_post"})
    assert record.state == "failed"
    assert "blocks.9.hook_resid_post" in record.error


# ---- the survey on plain arrays


def survey_of(rows, counted, seed=0, cuts=()):
    found = Survey(counted, rows.shape[2], seed)
    for part in np.split(rows, cuts):
        found.add(part)
    return found


def test_a_survey_groups_samples_and_finds_the_longest():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 20, 6)).astype(np.float32)
    rows[17, 3] *= 100
    counted = rng.random((300, 20)) < 0.9
    counted[17, 3] = True
    found = survey_of(rows, counted, cuts=[1, 40, 41, 200])
    plain = Covariance(6)
    plain.add(rows[counted])
    np.testing.assert_allclose(found.whole().matrix(), plain.matrix(), rtol=1e-9)
    assert len(found.groups) == 50
    assert found.tokens == counted.sum()
    places, sample = found.sample
    assert len(places) == min(4_000, counted.sum())
    assert len(np.unique(places, axis=0)) == len(places)
    np.testing.assert_array_equal(sample, rows[places[:, 0], places[:, 1]])
    assert counted[places[:, 0], places[:, 1]].all()
    share, far = found.far(found.whole())
    assert far[0].tolist() == [17, 3]
    norms = np.linalg.norm(np.where(counted[..., None], rows, 0), axis=2)
    longest = np.sort(norms.ravel())[::-1][:FAR]
    np.testing.assert_allclose(norms[far[:, 0], far[:, 1]], longest)
    mean = rows[counted].mean(axis=0)
    distance = np.square(rows[far[:, 0], far[:, 1]] - mean).sum() / np.square(rows[counted] - mean).sum()
    assert share == pytest.approx(distance, rel=1e-4)


def test_a_survey_does_not_depend_on_batches():
    rows = np.random.default_rng(1).normal(size=(30, 8, 4)).astype(np.float32)
    counted = np.ones((30, 8), dtype=bool)
    one, other = survey_of(rows, counted), survey_of(rows, counted, cuts=[3, 4, 29])
    np.testing.assert_array_equal(one.whole().matrix(), other.whole().matrix())
    np.testing.assert_array_equal(one.control.so_far().matrix(), other.control.so_far().matrix())
    np.testing.assert_array_equal(one.sample[1], other.sample[1])


def test_very_wide_activations_get_too_few_groups_for_an_interval():
    counted = np.ones((20, 2), dtype=bool)
    assert len(Survey(counted, 3_000, 0).groups) == 3
    assert len(Survey(counted, 2_048, 0).groups) == 8


def test_scores_are_about_the_mean():
    rows = np.asarray([[3.0, 4.0], [1.0, 0.0]])
    components = np.asarray([[0.0, 1.0]])
    np.testing.assert_array_equal(projected(rows, np.asarray([1.0, 1.0]), components), [[3.0], [-1.0]])


@pytest.mark.real_model
def test_a_real_model_uses_far_fewer_dimensions_than_noise(tmp_path, smollm2):
    real = {"model": "smollm2", "text": "python-docs", "hook": "blocks.3.hook_resid_post", "tokens": 1_500}
    record = start(tmp_path / "run", real | {"device": "cpu", "context": 64})
    assert record.state == "finished", record.error
    table = Recording(tmp_path / "run").figure("summary")
    columns = {axis.label: column for axis, column in zip(table.axes, table.columns, strict=True)}
    row = columns["Quantity"].tolist().index("99 % of the variance")
    assert columns["Activations"][row] < 0.8 * columns["Dimensions permuted"][row]
    assert columns["Activations"][0] < columns["Dimensions permuted"][0] < columns["Marchenko–Pastur"][0]
    assert Recording(tmp_path / "run").kept("components").shape == (576, 576)
