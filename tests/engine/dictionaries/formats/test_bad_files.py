"""Files that are incomplete, damaged, hostile or too large: one sentence each, and nothing half-loaded."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random

import numpy as np
import pytest
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.formats import looks_like_dictionary, open_dictionary
from engine.dictionaries.references import parse
from engine.models.errors import ModelError
from tests.engine.dictionaries.formats import test_dictionary_learning, test_gemma_scope, test_saelens
from tests.engine.dictionaries.formats.readings import D, F, put

CORRUPTIONS = 40  # of each file
ran = []


class Hostile:
    """What unpickling would call."""

    def __reduce__(self):
        return (ran.append, ("code ran",))


def saelens(folder, **changes):
    w = test_saelens.weights() | {name: value for name, value in changes.items() if value is not None}
    w = {name: value for name, value in w.items() if name not in changes or changes[name] is not None}
    return put(folder, test_saelens.config("standard"), w, weights_name="sae_weights.safetensors")


def refused(place, sentence):
    with pytest.raises(DictionaryError, match=sentence) as caught:
        open_dictionary(place)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    place = test_dictionary_learning.put(tmp_path / "trainer_0", "AutoEncoder", {})
    for content in (pickle.dumps(Hostile()), saved(Hostile()), saved({"bias": Hostile()})):
        (place / "ae.pt").write_bytes(content)
        refused(place, "would run code when it is read")
    assert ran == []


def saved(value):
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def test_pickled_arrays_in_npz_are_refused_and_do_not_run(tmp_path):
    place = test_gemma_scope.put_npz(tmp_path / "layer_1", test_gemma_scope.weights())
    np.savez(place / "params.npz", W_enc=np.array([Hostile()], dtype=object))
    refused(place, "holds pickled objects, which can run code")
    assert ran == []


def test_tensors_that_are_missing_misshapen_or_not_finite_are_named(tmp_path):
    refused(saelens(tmp_path / "a", b_enc=None), "The tensor b_enc is missing in .*; it has W_dec, W_enc, b_dec")
    refused(saelens(tmp_path / "b", W_enc=torch.ones(F, D)), r"W_enc in .* has shape \(20, 6\), but the rest asks for")
    broken = test_saelens.weights()["W_dec"]
    broken[3, 2] = float("nan")
    refused(saelens(tmp_path / "c", W_dec=broken), "W_dec in .* is not finite in 1 of its 120 entries")


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.98])
def test_files_that_are_cut_short_say_so(tmp_path, keep):
    first = saelens(tmp_path / "sae")
    second = test_gemma_scope.put_npz(tmp_path / "layer_1", test_gemma_scope.weights())
    third = test_dictionary_learning.put(tmp_path / "trainer_0", "AutoEncoder", test_dictionary_learning.linear("bias"))
    for file in (first / "sae_weights.safetensors", second / "params.npz", third / "ae.pt"):
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * keep)])
        refused(file.parent, "is cut short or damaged")


def test_whatever_is_wrong_with_a_file_one_sentence_says_so(tmp_path):
    """Bytes changed at random: it opens, or is refused, and nothing else happens."""
    places = [
        saelens(tmp_path / "sae"),
        test_gemma_scope.put_npz(tmp_path / "layer_1", test_gemma_scope.weights()),
        test_dictionary_learning.put(tmp_path / "trainer_0", "AutoEncoder", test_dictionary_learning.linear("bias")),
    ]
    chance = random.Random(0)
    for place in places:
        for file in place.iterdir():
            content = file.read_bytes()
            for _ in range(CORRUPTIONS):
                broken = bytearray(content)
                for _ in range(chance.choice((1, 4, 40))):
                    # Headers and tables stand at the ends.
                    at = chance.choice((chance.randrange(len(broken)), chance.randrange(min(400, len(broken)))))
                    broken[chance.choice((at, -1 - at))] = chance.randrange(256)
                file.write_bytes(broken)
                with contextlib.suppress(DictionaryError, ModelError):
                    open_dictionary(place)
            file.write_bytes(content)


def test_configs_that_are_missing_or_no_objects_say_so(tmp_path):
    place = saelens(tmp_path / "sae")
    for content in ("{", "[1]", '{"d_in": 6', ""):
        (place / "cfg.json").write_text(content)
        refused(place, "cut short or damaged|does not describe a dictionary")
    (place / "cfg.json").unlink()
    refused(place, "has no cfg.json, without which its weights cannot be read")
    other = test_dictionary_learning.put(tmp_path / "trainer_0", "AutoEncoder", {})
    (other / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    refused(other, "is not one of dictionary_learning's configs")


def test_of_several_all_open_or_none(tmp_path):
    saelens(tmp_path / "run" / "a")
    saelens(tmp_path / "run" / "b", b_dec=None)
    refused(tmp_path / "run", "tensor b_dec is missing")


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    place = saelens(tmp_path / "sae")
    monkeypatch.setattr("engine.models.memory.available", lambda device="cpu": 1000)
    monkeypatch.setattr("engine.dictionaries.formats.stored.StoredTensors.take", None)
    with pytest.raises(ModelError, match=r"needs about 2\.\d kB of memory, and 1\.0 kB are free"):
        open_dictionary(place)


@pytest.mark.parametrize(
    "reference", ["org/name:../../secrets", "org/name:/etc", "org/name:a/../../b", "org/name:a\\b"]
)
def test_folders_that_lead_outside_are_refused(reference):
    if reference.endswith("/etc"):  # a leading slash is only a way to write it
        assert parse(reference).folder == "etc"
        return
    with pytest.raises(DictionaryError):
        open_dictionary(reference)


def test_places_without_dictionaries_are_told_apart(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    refused(tmp_path, "holds no dictionary that Superscope knows; it reads saelens, dictionary_learning, ")
    refused(tmp_path / "notes.txt", "holds no dictionary")
    refused(tmp_path / "absent", "There is nothing at")
    refused("what is this", "is no reference of a dictionary; name a folder, a file in it, or org/name")


def test_dictionaries_are_recognised_without_opening_them(tmp_path):
    for name in ("sae_weights.safetensors", "ae.pt", "sae.safetensors", "params.npz", "layer_3.safetensors"):
        place = tmp_path / name / "below" / "one"
        place.mkdir(parents=True)
        (place / name).write_bytes(b"anything")
        assert looks_like_dictionary(tmp_path / name)
        assert looks_like_dictionary(place / name)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (model / "layer_0.safetensors").write_bytes(b"")
    (model / "model.safetensors").write_bytes(b"")
    assert not looks_like_dictionary(model)
    assert not looks_like_dictionary(tmp_path / "absent")
