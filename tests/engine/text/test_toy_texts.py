"""A toy's data as a text: read as it stands, by its own model only, with what counts and no more than was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.models.native import build_native
from engine.models.opening import OpenModel, open_model
from engine.runs.control import Control
from engine.runs.recording import RecordingWriter, RunRecord
from engine.runs.run import Run
from engine.text.corpora import open_corpus
from engine.text.errors import TextError
from engine.text.references import parse
from engine.text.tokens import contexts
from engine.text.toys import ToyData
from engine.toys.keeping import keep_toy

WORDS = [str(number) for number in range(8)] + ["=", "<start>", "<end>", "<unk>"]
CONFIG = {
    "d_model": 8, "n_layers": 1, "n_heads": 2, "d_head": 4, "d_mlp": 16, "n_ctx": 3, "d_vocab": len(WORDS),
    "act_fn": "relu", "normalization_type": None,
}  # fmt: skip
TOKENS = np.stack([np.arange(40) % 8, np.arange(40) // 8, np.full(40, 8)], axis=1)


def kept(work: Path, **more: Any) -> OpenModel:
    folder = work / "runs" / "adding-1"
    run = Run("adding-1", RecordingWriter(folder, RunRecord("adding-1", "adding", {})), Control())
    keep_toy(run, build_native(CONFIG, WORDS), ToyData(TOKENS, **more), title="Adding")
    return open_model("toy:adding-1", device="cpu", work=work)


def test_each_sequence_is_a_context_as_the_toy_read_it(tmp_path: Path) -> None:
    counted = np.zeros(TOKENS.shape, dtype=bool)
    counted[:, 2] = True
    model = kept(tmp_path, counted=counted)
    text = contexts(open_corpus("toy:adding-1", work=tmp_path), model, tokens=25, context=128)
    assert np.array_equal(text.ids, TOKENS[:25])
    assert text.counted.sum() == 25
    assert text.counted[:, 2].all()
    assert text.facts["tokens"] == 25
    assert text.facts["context"] == 3


def test_positions_behind_the_last_token_asked_for_do_not_count(tmp_path: Path) -> None:
    model = kept(tmp_path)
    text = contexts(open_corpus("toy:adding-1", work=tmp_path), model, tokens=4, context=128)
    assert text.counted.tolist() == [[True, True, True], [True, False, False]]


def test_the_model_says_which_text_and_prompt_fit_it(tmp_path: Path) -> None:
    model = kept(tmp_path)
    assert model.facts.text == "toy:adding-1"
    assert model.facts.example == "0 0 ="
    assert model.encode(model.facts.example, prepend_bos=False) == [0, 0, 8]


def test_another_model_does_not_read_it(tmp_path: Path) -> None:
    kept(tmp_path)
    corpus = open_corpus("toy:adding-1", work=tmp_path)
    with pytest.raises(TextError, match=r"only the model toy:adding-1 reads"):
        contexts(corpus, open_model("demo", device="cpu"), tokens=10, context=8)


@pytest.mark.parametrize("work", [True, False])
def test_data_that_is_not_there_is_said_to_be_missing(tmp_path: Path, work: bool) -> None:
    sentence = "no data of a toy nothing-1" if work else "no session is open"
    with pytest.raises(TextError, match=sentence):
        open_corpus("toy:nothing-1", work=tmp_path if work else None)


@pytest.mark.parametrize("reference", ["toy:", "toy:../x", "toy:A b"])
def test_what_names_no_run_is_refused(reference: str) -> None:
    with pytest.raises(TextError, match="names no run"):
        parse(reference)


@pytest.mark.parametrize(
    "parts",
    [
        {"tokens": np.zeros(3, dtype=int)},
        {"tokens": np.zeros((2, 3))},
        {"tokens": TOKENS, "counted": np.ones((2, 2), dtype=bool)},
        {"tokens": TOKENS, "features": np.zeros((40, 3, 2)), "names": ("one",)},
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(TextError):
        ToyData(**parts)
