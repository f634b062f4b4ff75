"""Opening: the right model, once, where it fits; a sentence where it does not."""

from __future__ import annotations

import gc
import json
import os
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models import memory, opening
from engine.models.errors import ModelError
from engine.models.facts import facts_before
from engine.models.native import SPECIAL, build_native, save_native
from engine.models.opening import OpenModel, choose_device, close_models, open_model, open_models
from engine.runs.control import RunStopped
from engine.runs.run import Progress, Run
from engine.runs.sinks import MemorySink

WORDS = [*SPECIAL, "a", "the", "bear", "sang", "."]
NATIVE = {"d_model": 8, "n_layers": 2, "n_heads": 2, "d_head": 4, "d_mlp": 16, "n_ctx": 12, "d_vocab": len(WORDS)}


@pytest.fixture
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty list of open models for the test, the others' models untouched."""
    monkeypatch.setattr(opening, "_opened", type(opening._opened)())


def test_the_bridge_computes_what_transformers_does(tiny: OpenModel, tiny_hf: Path) -> None:
    from transformers import AutoModelForCausalLM

    bare = AutoModelForCausalLM.from_pretrained(tiny_hf).eval()
    ids = torch.tensor([tiny.encode("The quick brown fox")])
    with torch.no_grad():
        assert torch.allclose(tiny.bridge(ids), bare(ids).logits, atol=1e-5)
    assert not tiny.bridge.training


def test_facts_are_those_of_the_config(tiny: OpenModel, tiny_hf: Path) -> None:
    config = json.loads((tiny_hf / "config.json").read_text())
    facts = tiny.facts
    assert (facts.layers, facts.d_model, facts.heads, facts.kv_heads) == (2, 32, 4, 2)
    assert (facts.d_head, facts.d_mlp, facts.context) == (8, 48, 64)
    assert facts.vocabulary == config["vocab_size"]
    assert facts.parameters == sum(weight.numel() for weight in tiny.bridge.original_model.parameters())
    assert facts.memory == 4 * facts.parameters
    assert (facts.architecture, facts.normalisation, facts.positions) == ("LlamaForCausalLM", "RMSNorm", "rotary")
    assert not facts.tied_embeddings
    assert facts.bos.startswith("<s> (id 0)")
    json.dumps(facts.to_json())


def test_facts_before_agree_with_facts_after_and_load_no_weights(
    tiny: OpenModel, tiny_hf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_open", lambda *a: pytest.fail("it was opened"))
    before = facts_before(str(tiny_hf))
    after = tiny.facts
    assert before.parameters == after.parameters
    assert before.values["heads"] == after.heads
    assert before.values["kv_heads"] == after.kv_heads
    assert before.values["layers"] == after.layers
    assert before.values["context"] == after.context
    assert before.here
    assert before.needed > after.memory


def test_encoding_prepends_bos_once_and_only_when_asked(tiny: OpenModel) -> None:
    with_bos, without = tiny.encode("The fox"), tiny.encode("The fox", prepend_bos=False)
    assert with_bos == [0, *without]
    assert "".join(tiny.token_texts(without)) == "The fox"


def test_the_same_model_is_opened_once(tiny: OpenModel, tiny_hf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_open", lambda *a: pytest.fail("it was loaded again"))
    assert open_model(str(tiny_hf), device="cpu") is tiny


def test_two_threads_that_ask_at_once_share_one_opening(
    tiny_gpt2: Path, nothing_open: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, inside = [], threading.Event()
    real = opening._open

    def slow(*args: object) -> OpenModel:
        calls.append(1)
        inside.wait(0.5)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "_open", slow)
    found: list[OpenModel] = []
    threads = [threading.Thread(target=lambda: found.append(open_model(str(tiny_gpt2), device="cpu"))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(calls) == 1
    assert found[0] is found[1]


def test_changed_weights_are_opened_anew(tiny_hf: Path, tmp_path: Path, nothing_open: None) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(tiny_hf, folder)
    first = open_model(str(folder), device="cpu")
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert open_model(str(folder), device="cpu") is not first


def test_a_model_larger_than_memory_is_refused_with_both_numbers_before_loading(
    tiny_hf: Path, nothing_open: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda device="cpu": 300_000_000)
    monkeypatch.setattr(opening, "_open", lambda *a: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match=r"needs about 400 MB of memory, and 300 MB are free; .*smaller model"):
        open_model(str(tiny_hf), device="cpu")


def test_models_not_asked_for_lately_make_room_first(
    tiny_hf: Path, tiny_gpt2: Path, nothing_open: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = open_model(str(tiny_hf), device="cpu"), open_model(str(tiny_gpt2), device="cpu")
    open_model(str(tiny_hf), device="cpu")  # asked for again: now the other one is the oldest
    gone = weakref.ref(second)
    del second
    # Free memory that is short until the oldest is let go.
    monkeypatch.setattr(memory, "available", lambda device="cpu": 10**12 if len(opening._opened) < 2 else 10)
    open_model(str(tiny_hf), device="cpu", dtype="bfloat16")
    assert [model.facts.dtype for model in open_models()] == ["float32", "bfloat16"]
    assert open_models()[0] is first
    gc.collect()
    assert gone() is None


def test_closing_lets_go_of_all(tiny_gpt2: Path, nothing_open: None) -> None:
    gone = weakref.ref(open_model(str(tiny_gpt2), device="cpu"))
    assert close_models() == 1
    assert gone() is None


def test_the_stages_are_told_and_stop_is_heard(tiny_gpt2: Path, nothing_open: None) -> None:
    stages: list[str] = []

    class Stopping(MemorySink):
        def progress(self, progress: Progress) -> None:
            stages.append(progress.stage)
            run.control.stop()

    run = Run("open-model-1", Stopping())
    with pytest.raises(RunStopped):
        open_model(str(tiny_gpt2), device="cpu", run=run)
    assert stages == ["Opening tiny-gpt2"]
    assert open_models() == []


@pytest.mark.parametrize(
    ("device", "said"),
    [("cuda:99", "no CUDA device 99"), ("tpu", "is no device"), ("cuda:x", "is no device")],
)
def test_a_device_that_is_not_there_is_said(device: str, said: str, tiny_hf: Path) -> None:
    with pytest.raises(ModelError, match=said):
        open_model(str(tiny_hf), device=device)


def test_auto_takes_the_processor_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ModelError, match="mps"):
        choose_device("mps")


def test_an_unknown_number_format_is_refused(tiny_hf: Path) -> None:
    with pytest.raises(ModelError, match="float64 is no number format"):
        open_model(str(tiny_hf), device="cpu", dtype="float64")


def test_a_toy_is_found_in_its_session(tmp_path: Path, nothing_open: None, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = build_native(NATIVE, WORDS)
    stored = save_native(bridge, reference="toy:tiny-language-model-1")

    def find_thing(work: Path, section: str, id: str) -> tuple:
        from engine.session import NotInSession

        if (work, section, id) != (tmp_path, "models", "tiny-language-model-1"):
            raise NotInSession(f"{id} is not there.")
        return stored

    monkeypatch.setattr("engine.session.find_thing", find_thing, raising=False)
    model = open_model("toy:tiny-language-model-1", device="cpu", work=tmp_path)
    ids = torch.tensor([model.encode("the bear sang .")])
    with torch.no_grad():
        assert torch.equal(model.bridge(ids), bridge(ids))
    assert model.facts.architecture == "native transformer"
    assert np.isclose(model.facts.memory, 4 * sum(array.size for array in stored[1].values()))
    with pytest.raises(ModelError, match="no toy model tiny-language-model-2"):
        open_model("toy:tiny-language-model-2", device="cpu", work=tmp_path)
    with pytest.raises(ModelError, match="no session is open"):
        open_model("toy:tiny-language-model-1", device="cpu")


def test_opening_is_silent(tiny_gpt2: Path, nothing_open: None, capfd: pytest.CaptureFixture[str]) -> None:
    open_model(str(tiny_gpt2), device="cpu").hook_points()
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ""
