"""The demo that ships: small enough, near the entropy floor, and made of real runs of its own model."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from engine import places
from engine.dictionaries.formats import open_dictionary
from engine.figures import Lines
from engine.models.native import demo_folder, load_demo, load_native, weights
from engine.session import Session
from engine.text import stories
from engine.toys import demo
from engine.toys.stories.training import story_losses


@pytest.fixture(scope="module")
def fresh() -> list[stories.Story]:
    """Stories of a stream that no training and no corpus draws from."""
    return list(itertools.islice(stories.generate(20_000, stream=9), 2_000))


def test_the_demo_model_is_within_two_hundredths_of_the_floor_on_fresh_stories(fresh: list[stories.Story]) -> None:
    nats = story_losses(load_demo(), fresh, 128)
    own_floor = -np.concatenate([story.log_probabilities for story in fresh])
    assert own_floor.mean() == pytest.approx(stories.floor(), abs=0.001)
    # The noise of the draw is in both, so that the difference is known far better than either.
    assert nats.mean() - own_floor.mean() < 0.02
    assert nats.mean() - own_floor.mean() > 0, "nothing goes below the floor but a wrong floor"
    slots = np.concatenate([story.slots for story in fresh])
    for copied in ("NAME2", "NAME3", "PLACE2", "ANIMAL3", "VOICE", "FACE"):
        assert nats[slots == copied].mean() < 0.1, copied


def test_the_demo_model_is_small_and_says_what_it_is() -> None:
    assert sum(path.stat().st_size for path in demo_folder().glob("model.*")) <= demo.MODEL_LIMIT
    attributes = json.loads((demo_folder() / "model.json").read_text())
    assert attributes["reference"] == "demo"
    assert attributes["config"]["n_ctx"] == 128
    assert attributes["vocabulary"][:-1] == list(stories.VOCABULARY)


def test_the_demo_model_tells_a_story_of_the_grammar() -> None:
    bridge = load_demo()
    ids = bridge.to_tokens("one monday anna went to the park . she felt sad . anna saw a dog with a red ball .")
    with torch.no_grad():
        while ids[0, -1] != stories.WORD_IDS["<end>"] and ids.shape[1] < 60:
            ids = torch.cat([ids, bridge(ids)[:, -1:].argmax(-1)], dim=1)
    told = bridge.tokenizer.decode(ids[0], skip_special_tokens=True)
    assert told.endswith(". the dog wanted the red ball . at the park the dog wept and anna went home crying ."), told


def test_the_demo_session_holds_finished_runs_of_this_demo_model() -> None:
    path = demo_folder() / demo.SESSION_NAME
    assert path.stat().st_size <= demo.SESSION_LIMIT
    with Session.open(path, copy=True) as session:
        runs = {record.experiment: record for record in session.runs()}
        assert set(runs) == {"tiny-language-model", "pca-spectrum", "train-dictionary"}
        assert all(record.state == "finished" for record in runs.values())
        assert all(record.checkpoint == "" for record in runs.values())

        id = runs["tiny-language-model"].id
        (thing,) = [thing for thing in session.things("models") if thing.id == id]
        names = session.thing_array_names("models", id)
        stored = load_native(thing.attributes, {name: session.thing_array("models", id, name)[()] for name in names})
        shipped = weights(load_demo())
        assert all(np.array_equal(array, shipped[name]) for name, array in weights(stored).items())
        assert thing.attributes["reference"] == f"toy:{id}"

        for experiment, record in runs.items():
            assert session.figure_names(record.id), experiment
            for name in session.figure_names(record.id):
                session.figure(record.id, name)
        curve = session.figure(id, "loss")
        assert isinstance(curve, Lines)
        assert session.metric(id, "test_loss")[-1, 1] < curve.reference["entropy floor"] + demo.TOLERANCE
        assert {runs[name].parameters["model"] for name in ("pca-spectrum", "train-dictionary")} == {"demo"}


def test_what_ships_names_no_folder_of_the_machine_that_made_it() -> None:
    checkout = str(places.resources().parent)
    for path in (path for path in demo_folder().rglob("*") if path.is_file()):
        content = path.read_bytes()
        for place in ("/home/", "/tmp/", "/root/", "/Users/", checkout):
            assert place.encode() not in content, (path.name, place)


def test_the_demo_dictionary_is_the_demo_sessions() -> None:
    [found] = open_dictionary("demo")
    with Session.open(demo_folder() / demo.SESSION_NAME, copy=True) as session:
        for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
            stored = session.thing_array("dictionaries", "train-dictionary-1", name)[()]
            np.testing.assert_array_equal(found.dictionary.arrays()[name], stored)
