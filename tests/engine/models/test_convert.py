"""A GGUF file is converted once into a folder that computes the same, or into nothing at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import files, places
from engine.models import convert, memory
from engine.models.errors import ModelError
from engine.models.opening import open_model
from engine.models.references import converted_folder, marker, parse
from engine.runs.control import RunStopped
from engine.runs.run import Progress, Run
from engine.runs.sinks import MemorySink
from tests.engine.models.tiny_gguf import write_gguf


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of converted models of the test's own."""
    monkeypatch.setenv("SUPERSCOPE_HOME", str(tmp_path / "own"))
    return tmp_path / "own" / "cache" / "models"


@pytest.fixture
def gguf_file(tmp_path: Path, tiny_hf: Path) -> Path:
    path = tmp_path / "Tiny.F32.gguf"
    write_gguf(tiny_hf, path)
    return path


def left(folder: Path) -> list[str]:
    """What lies in the folder, hidden files included."""
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def test_the_converted_model_computes_what_the_original_does(cache: Path, gguf_file: Path, tiny_hf: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    original = AutoModelForCausalLM.from_pretrained(tiny_hf).eval()
    model = open_model(str(gguf_file), device="cpu")
    ids = torch.tensor([model.encode("The quick brown fox, 42")])
    with torch.no_grad():
        expected, found = original(ids).logits, model.bridge(ids)
    assert torch.allclose(found, expected, atol=1e-4)
    assert model.facts.source_hash == convert.sha256(gguf_file)
    text = "The lazy fox, 0123 ñ\n"
    assert model.encode(text) == AutoTokenizer.from_pretrained(tiny_hf).encode(text)


def test_the_second_opening_converts_nothing_and_a_changed_file_is_converted_again(
    cache: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = convert.convert
    monkeypatch.setattr(convert, "convert", lambda *a, **k: (calls.append(1), real(*a, **k)))
    reference = parse(str(gguf_file))
    folder = convert.converted(reference)
    assert convert.converted(reference) == folder
    assert len(calls) == 1
    assert marker(folder)["source"] == str(gguf_file)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    os.utime(gguf_file, ns=(1, 1))
    convert.converted(reference)
    assert len(calls) == 2
    assert left(cache) == [folder.name]


def test_stop_takes_effect_between_tensors_and_leaves_nothing(cache: Path, gguf_file: Path) -> None:
    class Stopping(MemorySink):
        def progress(self, progress: Progress) -> None:
            if progress.unit == "tensors":
                run.control.stop()

    run = Run("open-model-1", Stopping())
    with pytest.raises(RunStopped):
        convert.converted(parse(str(gguf_file)), run)
    assert left(cache) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_said_and_leaves_nothing(
    cache: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "_flush", refuse)
    with pytest.raises(files.DiskError, match=r"full|written to"):
        convert.converted(parse(str(gguf_file)))
    assert left(cache) == []


def test_a_disk_that_fills_up_while_weights_are_written_is_said_as_such(
    cache: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors
    import transformers

    def fail(self: Any, *args: Any, **options: Any) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", fail)
    with pytest.raises(files.DiskError, match="full"):
        convert.converted(parse(str(gguf_file)))
    assert left(cache) == []


def test_too_little_disk_is_refused_before_anything_is_computed(
    cache: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1_000})())
    monkeypatch.setattr(convert, "_load", lambda *a: pytest.fail("it was loaded"))
    with pytest.raises(files.DiskError, match=r"needs .* MB in .*, where 1\.0 kB are free"):
        convert.converted(parse(str(gguf_file)))


def test_too_little_memory_is_refused_before_anything_is_computed(
    cache: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda device="cpu": 1_000)
    monkeypatch.setattr(convert, "_load", lambda *a: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match=r"Converting Tiny\.F32\.gguf needs about .* of memory, and 1\.0 kB are free"):
        convert.converted(parse(str(gguf_file)))


def test_an_architecture_that_transformers_does_not_read_gets_one_sentence(cache: Path, tmp_path: Path) -> None:
    import gguf
    import numpy as np

    path = tmp_path / "strange.gguf"
    writer = gguf.GGUFWriter(path, "strange")
    writer.add_name("Strange")
    writer.add_tensor("x", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"strange\.gguf cannot be converted: .*architecture strange"):
        convert.converted(parse(str(path)))
    assert left(cache) == []


def test_a_converted_copy_that_was_damaged_since_is_made_again(cache: Path, gguf_file: Path) -> None:
    folder = convert.converted(parse(str(gguf_file)))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert convert.converted(parse(str(gguf_file))) == folder
    assert weights.read_bytes() == whole


def test_a_folder_without_its_marker_is_no_conversion(cache: Path, gguf_file: Path) -> None:
    folder = converted_folder(parse(str(gguf_file)))
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"half")
    assert convert.converted(parse(str(gguf_file))) == folder
    assert marker(folder) is not None
    assert places.cache() / "models" == cache
