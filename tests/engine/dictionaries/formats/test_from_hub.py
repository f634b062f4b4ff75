"""Dictionaries from the hub: the folder that was named and no more, no pickles, one sentence for each failure."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.formats import hub
from engine.dictionaries.references import parse
from tests.engine.dictionaries.formats import test_circuit_tracer, test_gemma_scope, test_saelens
from tests.engine.dictionaries.formats.readings import put
from tests.engine.models.fake_hub import serving
from tests.engine.models.test_hub import ask

NAME = "org/saes"
EACH = "__import__('tests.engine.dictionaries.formats.readings', fromlist=['each']).each({references!r}, run)"
SAE = "sae_weights.safetensors"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub serves: dictionaries of several kinds, and things that are not wanted."""
    folder = tmp_path_factory.mktemp("remote") / "saes"
    put(folder / "layer_1" / "small", test_saelens.config("standard"), test_saelens.weights(), weights_name=SAE)
    put(folder / "layer_2" / "small", test_saelens.config("topk", k=3), test_saelens.weights(), weights_name=SAE)
    test_circuit_tracer.put(
        folder / "transcoders", {0: test_circuit_tracer.weights(), 1: test_circuit_tracer.weights()}
    )
    test_gemma_scope.put_npz(folder / "layer_5" / "width_16k", test_gemma_scope.weights())
    (folder / "trainer_0").mkdir()
    torch.save({}, folder / "trainer_0" / "ae.pt")
    (folder / "layer_1" / "small" / "evil.py").write_text("raise SystemExit")
    return folder


def opened(home: Path, endpoint: str, *references: str, **options: bool) -> list:
    """What a process whose hub is at ``endpoint`` opens, one after the other."""
    return list(ask(home, endpoint, EACH.format(references=references), **options)["found"])


def fetched(asked: list[str]) -> list[str]:
    return [path.partition("/resolve/")[2].partition("/")[2] for path in asked if "/resolve/" in path]


def test_one_folder_is_fetched_and_nothing_else_and_the_second_time_nothing_at_all(remote: Path, tmp_path: Path):
    reference = f"{NAME}:layer_1/small"
    with serving(remote, NAME) as (endpoint, asked):
        first, second = opened(tmp_path / "hf", endpoint, reference, reference)
        assert first == second == [["blocks.3.hook_resid_pre", "saelens", 20]]
        assert fetched(asked) == ["layer_1/small/cfg.json", "layer_1/small/sae_weights.safetensors"]
        assert len(asked) == 3, "the second time the hub is not even asked"


def test_several_single_files_and_refusals(remote: Path, tmp_path: Path):
    with serving(remote, NAME) as (endpoint, asked):
        pickle, absent, other, single, several, scope = opened(
            tmp_path / "hf",
            endpoint,
            f"{NAME}:trainer_0",
            f"{NAME}:layer_9",
            "org/other",
            f"{NAME}:transcoders/layer_1.safetensors",
            f"{NAME}:transcoders",
            f"{NAME}:layer_5/width_16k",
        )
    assert "only as a pickle (trainer_0/ae.pt), which can run code when it is read" in pickle
    assert "has no folder layer_9 at the hub" in absent
    assert "no model org/other" in other
    assert single == [["layer 1", "circuit-tracer", 20]]
    assert [name for name, _, _ in several] == ["layer 0", "layer 1"]
    assert [format for _, format, _ in scope] == ["gemma-scope"]
    assert not any(name.endswith((".pt", ".py")) for name in fetched(asked))


def test_without_network_one_sentence_says_so(tmp_path: Path):
    (sentence,) = opened(tmp_path / "hf", "http://127.0.0.1:9", f"{NAME}:layer_1/small", offline=True)
    assert sentence.startswith("The hub could not be reached, and org/saes is not on this machine")


def test_a_whole_release_is_not_fetched_by_mistake():
    files = [(f"layer_{number}/params.npz", 10) for number in range(65)]
    with pytest.raises(DictionaryError, match=r"has 65 files of weights at the hub; name one .* org/saes:layer_0"):
        hub._wanted(parse(NAME), files)


def test_references_have_ids_that_fit_a_session():
    assert parse("org/name:layer_1/width_16k").id == "org-name-layer-1-width-16k"
    assert parse("org/name").text == "org/name"
    here = parse(os.curdir)
    assert here.kind == "path"
    assert json.dumps(here.id)
