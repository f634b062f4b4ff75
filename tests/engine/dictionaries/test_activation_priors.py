"""The experiment as a person runs it: on units of the demo model, on dictionaries, and refused with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.prior_survey import active
from engine.figures import Bars, Lines, Table
from engine.models.capture import capture
from engine.models.opening import open_model
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from engine.session.work import WorkFolder
from engine.text.corpora import open_corpus
from engine.text.tokens import contexts

EXPERIMENT = find("activation-priors")
HOOK = "blocks.0.mlp.hook_post"


def finished(work: WorkFolder, **values: Any) -> Recording:
    record = started(work, **values)
    assert record.state == "finished", record.traceback or record.error
    return Recording(work.path / "runs" / "activation-priors-1")


def started(work: WorkFolder, **values: Any) -> RunRecord:
    folder = work.path / "runs" / "activation-priors-1"
    given = {"tokens": 4_000, "samples": 600, "device": "cpu", "threads": 1} | values
    return execute(EXPERIMENT, check(EXPERIMENT.parameters, given), folder, work=work.path)


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work")


def keep(work: WorkFolder, dictionary: Dictionary) -> None:
    writer = RecordingWriter(work.path / "runs" / "train-dictionary-1", RunRecord("train-dictionary-1", "t", {}))
    writer.produced("dictionaries", "train-dictionary-1", dictionary.attributes(), dictionary.arrays())


def jumprelu(
    threshold: float, hook: str = "blocks.0.hook_resid_post", d: int = 64, activation: str = "jumprelu"
) -> Any:
    """Positive and negative part of each dimension, where beyond the threshold."""
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    config = DictionaryConfig(activation, d, d, 2 * d, None, False, activation, hook, hook, "demo")
    extra = {"threshold": torch.full((2 * d,), threshold)} if activation == "jumprelu" else {}
    return Dictionary(config, both.T.contiguous(), both, torch.zeros(2 * d), torch.zeros(d), **extra)


def column(table: Table, label: str) -> Any:
    return table.columns[[axis.label for axis in table.axes].index(label)]


def test_units_of_the_demo_model_are_ranked_with_n_interval_and_spread(work):
    recording = finished(work)
    assert set(recording.metric_names()) == set(EXPERIMENT.metrics)
    assert recording.metric("tail")[-1, 1] == np.median(recording.kept("tail"))
    facts = recording.record().facts
    nll, ids = recording.kept("nll"), recording.kept("latents")
    assert nll.shape == (facts["latents_fitted"], 8)
    assert 0 < facts["latents_fitted"] <= 256
    bars, table = recording.figure("ranking"), recording.figure("table")
    assert isinstance(bars, Bars)
    np.testing.assert_allclose(bars.value, np.sort(nll.mean(axis=0)))
    assert (bars.low < bars.value).all()
    assert (bars.value < bars.high).all()
    assert f"n = {facts['latents_fitted']} units of {HOOK}" in bars.note
    assert column(table, "Best for").sum() == facts["latents_fitted"]
    np.testing.assert_allclose(
        column(table, "Deviation over latents"), nll.std(axis=0, ddof=1)[np.argsort(nll.mean(axis=0))]
    )
    assert facts["best_penalty"] in ("l1", "lp", "log", "log-square")
    for name in ("histogram", "qq", "penalties", "slopes"):
        figure = recording.figure(name)
        assert isinstance(figure, Lines)
        assert figure.note
    assert column(recording.figure("latents"), "Latent").tolist() == ids.tolist()
    assert len(column(recording.figure("pairs"), "Odds ratio")) == 200
    assert "product" in column(recording.figure("families"), "In train-dictionary").tolist()


def test_samples_are_the_positive_activations_of_the_model(work):
    finished(work, tokens=2_000, samples=100_000, latent=7)
    recording = Recording(work.path / "runs" / "activation-priors-1")
    model = open_model("demo", device="cpu")
    text = contexts(open_corpus("stories"), model, tokens=2_000, context=128)
    rows = torch.cat([part[HOOK] for _, part in capture(model, text.ids, [HOOK])]).numpy()[text.counted]
    table = recording.figure("latents")
    for latent, count in zip(column(table, "Latent"), column(table, "Samples"), strict=True):
        assert count == (rows[:, latent] > 0).sum() >= 500
    assert recording.record().facts["latents_with_too_few_samples"] == ((rows > 0).sum(axis=0) < 500).sum()
    odds = recording.figure("pairs")
    a, b = column(odds, "Latent")[0], column(odds, "With latent")[0]
    assert column(odds, "Together")[0] == ((rows[:, a] > 0) & (rows[:, b] > 0)).sum()


def test_a_dictionary_of_the_session_is_fitted_behind_its_threshold(work):
    keep(work, jumprelu(0.25))
    recording = finished(work, dictionary="train-dictionary-1", tokens=3_000)
    table = recording.figure("latents")
    assert "latents of train-dictionary-1" in recording.figure("ranking").note
    assert column(table, "Latent").max() >= 64
    x = torch.tensor([[0.2, 0.5], [-3.0, 0.0]])
    count, width, rows, latents, values = active(x, jumprelu(0.25, d=2))
    assert (count, width) == (2, 4)
    assert (rows.tolist(), latents.tolist()) == ([0, 1], [1, 2])
    np.testing.assert_allclose(values, [0.25, 2.75])


def test_circularity_is_said_of_a_dictionary_trained_with_a_penalty(work):
    keep(work, jumprelu(0.0, activation="relu"))
    recording = finished(work, dictionary="train-dictionary-1", tokens=2_000)
    assert any("leans towards it" in line["text"] for line in recording.log())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"dictionary": "nothing-3"}, "dictionary=nothing-3 is not in this session; give the id"),
        (
            {"dictionary": "train-dictionary-1"},
            "reads 32 dimensions, but blocks.0.hook_resid_post of Demo model has 64",
        ),
        ({"tokens": 1_000, "hook": "blocks.0.ln2.hook_scale", "include_special": False}, ""),
        ({"hook": "blocks.9.mlp.hook_post"}, "blocks are numbered 0 to 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_a_sentence(work, values, sentence):
    keep(work, jumprelu(0.1, d=32))
    record = started(work, **values)
    if not sentence:  # one unit, always positive: fitted, without any pair
        assert record.state == "finished", record.traceback
        table = Recording(work.path / "runs" / "activation-priors-1").figure("pairs")
        assert "no two of the latents were active together" in table.note
        return
    assert record.state == "failed"
    assert sentence in record.error
    assert record.error.count("\n") == 0


def test_too_few_positive_activations_are_refused(work):
    keep(work, jumprelu(1e6))
    record = started(work, dictionary="train-dictionary-1")
    assert record.state == "failed"
    assert "No latent has 500 different positive activations" in record.error
    assert "the most is 0" in record.error
