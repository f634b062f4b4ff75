"""The experiments that open and export dictionaries, as a window or a terminal runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import api
from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import read
from engine.dictionaries.formats import open_dictionary
from engine.errors import ParameterError, SuperscopeError
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.runs.run import Run
from engine.runs.sinks import MemorySink
from engine.session import Session
from tests.engine.dictionaries.formats import test_dictionary_learning as other
from tests.engine.dictionaries.formats import test_writing as made
from tests.engine.dictionaries.formats.readings import inputs


class ThingsSink(MemorySink):
    """Holds what a run adds to its session, too."""

    def __init__(self):
        super().__init__()
        self.things = {}

    def produced(self, section, id, attributes, arrays):
        self.things[section, id] = dict(attributes), dict(arrays)


def run(name, **values):
    experiment, sink = find(name), ThingsSink()
    experiment.function(check(experiment.parameters, values), Run(f"{name}-1", sink))
    return sink


def test_what_is_opened_is_listed_with_source_and_format_and_without_densities(tmp_path):
    place = other.put(tmp_path / "trainer_0", "BatchTopKSAE", other.topk_family(), k=4)
    sink = run("open-dictionary", dictionary=str(place))
    ((section, id),) = sink.things
    attributes, arrays = sink.things[section, id]
    assert section == "dictionaries"
    assert id.startswith("trainer-0-")
    assert (attributes["source"], attributes["format"]) == (str(place), "dictionary_learning")
    assert set(arrays) == {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"}
    x = inputs()
    (found,) = open_dictionary(place)
    assert torch.equal(read(json.loads(json.dumps(attributes)), arrays)(x), found.dictionary(x))
    assert any("never estimated" in text for _, text in sink.lines)


def test_several_are_all_listed_and_a_model_that_is_named_is_theirs(tmp_path):
    for number, k in enumerate((4, 7)):
        place = tmp_path / "run" / f"trainer_{number}"
        other.put(place, "AutoEncoderTopK", other.topk_family(k), k=k)
    sink = run("open-dictionary", dictionary=str(tmp_path / "run"), model="demo")
    configs = [attributes["config"] for attributes, _ in sink.things.values()]
    assert [(config["k"], config["model"]) for config in configs] == [(4, "demo"), (7, "demo")]
    assert len(sink.figures["dictionaries"].columns[0]) == 2


def test_nothing_is_listed_where_one_of_several_cannot_be_read(tmp_path):
    other.put(tmp_path / "run" / "trainer_0", "AutoEncoder", other.linear("bias"))
    other.put(tmp_path / "run" / "trainer_1", "AutoEncoder", other.linear("b_dec"))
    experiment, sink = find("open-dictionary"), ThingsSink()
    parameters = check(experiment.parameters, {"dictionary": str(tmp_path / "run")})
    with pytest.raises(DictionaryError, match="tensor bias is missing"):
        experiment.function(parameters, Run("open-dictionary-1", sink))
    assert not sink.things


def test_a_dictionary_goes_through_a_session_and_out_again(tmp_path: Path, home: Path):
    one, x = made.CODERS["relu"], inputs()
    made.write(one, tmp_path / "first", "saelens")
    session = tmp_path / "mine.superscope"
    api.run("open-dictionary", session=session, dictionary=str(tmp_path / "first"))
    with_session = Session.open(session)
    (thing,) = with_session.things("dictionaries")
    with_session.close()
    result = api.run(
        "export-dictionary",
        session=session,
        dictionary=thing.id,
        format="dictionary_learning",
        folder=str(tmp_path / "second"),
    )
    assert result.facts["folder"] == str(tmp_path / "second")
    (found,) = open_dictionary(tmp_path / "second")
    np.testing.assert_allclose(found.dictionary(x), one(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(SuperscopeError, match="There is something at"):
        api.run("export-dictionary", session=session, dictionary=thing.id, folder=str(tmp_path / "second"))
    with pytest.raises(SuperscopeError, match="no dictionary nothing-1 in this session"):
        api.run("export-dictionary", session=session, dictionary="nothing-1", folder=str(tmp_path / "third"))


def test_without_a_session_there_is_nothing_to_export(tmp_path):
    with pytest.raises(DictionaryError, match="There is no session to take any from; run this in a session"):
        run("export-dictionary", dictionary="any", folder=str(tmp_path / "new"))


def test_formats_are_checked_before_anything_runs():
    with pytest.raises(ParameterError, match="format"):
        check(find("export-dictionary").parameters, {"dictionary": "a", "folder": "b", "format": "onnx"})


def test_both_do_something_with_their_defaults_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert api.run("open-dictionary").facts["dictionaries"] == 1
    api.run("export-dictionary")
    [again], [shipped] = open_dictionary(tmp_path / "demo-saelens"), open_dictionary("demo")
    for name, array in shipped.dictionary.arrays().items():
        np.testing.assert_array_equal(again.dictionary.arrays()[name], array)
