"""A model folder is looked at before it is opened; what is wrong with it is said by name."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch

from engine.models import folder as folder_module
from engine.models.errors import ModelError
from engine.models.folder import fingerprint, inspect
from engine.models.opening import open_model


@pytest.fixture
def copied(tiny_hf: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_hf, folder)
    return folder


def test_parameters_and_size_are_those_of_the_weights(tiny_hf: Path) -> None:
    from transformers import AutoModelForCausalLM

    found = inspect(tiny_hf)
    model = AutoModelForCausalLM.from_pretrained(tiny_hf)
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    assert found.size == found.parameters * 4


def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no folder"):
        open_model(str(tmp_path / "absent"))
    with pytest.raises(ModelError, match=r"is no model folder: it has no config\.json"):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="does not describe a model"):
        open_model(str(tmp_path))


def test_weights_that_are_only_there_as_pickles_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, copied / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only as pickle files \(pytorch_model\.bin\)"):
        open_model(str(copied))


def test_weights_that_are_cut_short_are_refused_with_both_lengths(copied: Path) -> None:
    weights = copied / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match=f"cut short: it has {len(whole) - 1:,} bytes of the {len(whole):,}"):
        open_model(str(copied))
    weights.write_bytes(whole[:50])
    with pytest.raises(ModelError, match="cut short"):
        open_model(str(copied))
    weights.write_bytes(whole[:3])
    with pytest.raises(ModelError, match="cut short"):
        open_model(str(copied))
    weights.write_bytes(struct.pack("<Q", 4) + b"[1]]")
    with pytest.raises(ModelError, match="damaged"):
        open_model(str(copied))


def test_a_missing_part_of_many_is_named(copied: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    (copied / "model.safetensors").rename(copied / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"not complete: model-00002-of-00002\.safetensors is missing"):
        inspect(copied)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "sub/model.safetensors"])
def test_an_index_that_points_outside_its_folder_is_refused(copied: Path, name: str) -> None:
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match="points outside its folder"):
        inspect(copied)


def test_a_model_that_needs_code_of_its_own_is_refused_and_its_code_does_not_run(copied: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (copied / "modeling_evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\nclass EvilConfig: pass\n")
    config = json.loads((copied / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "architectures": ["Evil"],
        "auto_map": {"AutoConfig": "modeling_evil.EvilConfig", "AutoModelForCausalLM": "modeling_evil.Evil"},
    }
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"architecture Evil.*never run"):
        open_model(str(copied))
    assert not ran.exists()


def test_a_model_that_does_not_predict_text_is_refused(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTModel(config).save_pretrained(tmp_path / "vit")
    with pytest.raises(ModelError, match="vit"):
        open_model(str(tmp_path / "vit"))


def test_a_model_without_a_tokenizer_is_refused(copied: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copied / name).unlink()
    with pytest.raises(ModelError, match="tiny"):
        open_model(str(copied))


@pytest.mark.parametrize("whole", [10**9, 0])
def test_two_checkpoints_have_different_fingerprints(
    copied: Path, tiny_hf: Path, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(folder_module, "_WHOLE", whole)
    same = fingerprint(inspect(copied))
    assert same == fingerprint(inspect(tiny_hf))
    content = bytearray((copied / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copied / "model.safetensors").write_bytes(bytes(content))
    changed = fingerprint(inspect(copied))
    assert len(changed) == 64
    assert changed != same
