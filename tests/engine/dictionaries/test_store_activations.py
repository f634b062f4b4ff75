"""Activations kept in a session or a file are those of the model, and dictionaries train on them."""

from __future__ import annotations

import numpy as np
import pytest

from engine import api
from engine.errors import SuperscopeError
from engine.models.capture import capture
from engine.models.store import ActivationStore
from engine.session import Session
from engine.text.corpora import open_corpus
from engine.text.tokens import contexts
from tests.engine.dictionaries.training_runs import HOOK

MLP = "blocks.1.hook_mlp_out"


@pytest.fixture
def where(values):
    return {name: values[name] for name in ("model", "text", "hook", "tokens", "context", "device", "threads")}


def captured(tiny, values, hook):
    """What the model does on the text, position by position, BOS left out."""
    found = contexts(open_corpus(values["text"]), tiny, tokens=3_000, context=32)
    parts = [rows[hook].numpy()[found.counted[part]] for part, rows in capture(tiny, found.ids, [hook])]
    return np.concatenate(parts)


def test_a_set_in_the_session_trains_as_the_model_does(where, values, tiny):
    with Session.create(title="Sets") as session:
        kept = api.run("store-activations", session=session, hook_out=MLP, **where)
        np.testing.assert_allclose(
            session.thing_array("activations", kept.id, "data")[()], captured(tiny, where, HOOK), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            session.thing_array("activations", f"{kept.id}-out", "data")[()], captured(tiny, where, MLP), rtol=1e-5,
            atol=1e-6,
        )  # fmt: skip
        trained = api.run(
            "train-dictionary", session=session, architecture="transcoder", activations=kept.id,
            activations_out=f"{kept.id}-out", width=96, k=6, batch=64, steps=60, device="cpu", threads=1,
        )  # fmt: skip
        config = next(thing for thing in session.things("dictionaries")).attributes["config"]
        assert trained.state == "finished"
        assert (config["hook_in"], config["hook_out"], config["model"]) == (HOOK, MLP, where["model"])


@pytest.mark.parametrize(("stored", "tolerance"), [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 1e-2)])
def test_a_file_holds_them_in_any_number_format(where, tiny, tmp_path, stored, tolerance):
    path = tmp_path / "set.h5"
    api.run("store-activations", file=str(path), hook_out=MLP, stored=stored, **where)
    for place, hook in ((path, HOOK), (tmp_path / "set-out.h5", MLP)):
        with ActivationStore.open(place) as store:
            assert store.attributes["hook"] == hook
            np.testing.assert_allclose(
                store.rows(slice(0, len(store))), captured(tiny, where, hook), rtol=tolerance, atol=tolerance
            )


@pytest.mark.parametrize(("name", "sentence"), [("set.npy", r"written as \.h5"), ("there.h5", "There is something at")])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(where, tmp_path, name, sentence):
    (tmp_path / "there.h5").write_bytes(b"mine")
    with pytest.raises(SuperscopeError, match=sentence):
        api.run("store-activations", file=str(tmp_path / name), **(where | {"model": "nobody/nothing"}))
    assert (tmp_path / "there.h5").read_bytes() == b"mine"


def test_what_does_not_fit_the_session_is_refused(where, monkeypatch):
    api.run("store-activations", **where)  # the model is open now
    monkeypatch.setattr("engine.models.memory.available", lambda device="cpu": 500_000)
    with pytest.raises(SuperscopeError, match=r"Keeping [\d,]+ activations in the session needs about .* name a file"):
        api.run("store-activations", **where)
