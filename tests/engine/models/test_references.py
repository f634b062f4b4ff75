"""References: every form is read, ids fit the session, and removing deletes only what Superscope made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SuperscopeError
from engine.models import references
from engine.models.errors import ModelError
from engine.models.references import Reference, known, parse, remove, slug


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("demo", "demo", "demo"),
        (" smollm2 ", "smollm2", "smollm2"),
        ("toy:tiny-language-model-1", "toy", "tiny-language-model-1"),
        ("/models/a.gguf", "gguf", "/models/a.gguf"),
        ("some/Model.Q4_0.GGUF", "gguf", "some/Model.Q4_0.GGUF"),
        ("/models/llama", "folder", "/models/llama"),
        ("./llama", "folder", "./llama"),
        ("C:\\models\\llama", "folder", "C:\\models\\llama"),
        ("openai-community/gpt2", "hub", "openai-community/gpt2"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "hub", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_each_form_is_read(text: str, kind: str, value: str) -> None:
    assert parse(text) == Reference(kind, value)  # type: ignore[arg-type]


def test_a_relative_folder_that_exists_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse("org/name").kind == "folder"
    assert parse("org/other").kind == "hub"


@pytest.mark.parametrize("text", ["", "   ", "gpt2", "toy:", "toy:Run 1", "org/name/more", "http://x/y", "a b/c"])
def test_what_has_none_of_the_forms_is_refused_by_name(text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(f"“{text}”")):
        parse(text)


@given(st.text(max_size=40))
def test_any_text_is_either_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        found = parse(text)
    except SuperscopeError:
        return
    assert re.fullmatch(r"[a-z0-9-]+", found.id)
    assert found.title


def test_ids_differ_for_files_of_one_name_in_two_folders() -> None:
    assert slug("/a/model.gguf") != slug("/b/model.gguf")
    assert slug("/a/model.gguf") == slug("/a/../a/model.gguf")


def test_reading_references_needs_neither_torch_nor_pydantic() -> None:
    program = (
        "import sys; import engine.models.references as r; r.parse('demo'); r.known(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without the shared models, and an empty hub cache."""
    monkeypatch.setenv("SUPERSCOPE_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "own" / "cache" / "models"


def test_known_lists_what_is_here_with_its_size(own_cache: Path, tmp_path: Path) -> None:
    before = {entry.reference: entry for entry in known()}
    assert set(before) == {"demo", "smollm2"}
    assert not before["smollm2"].here
    converted = own_cache / slug("/a/model.gguf")
    converted.mkdir(parents=True)
    (converted / "model.safetensors").write_bytes(b"x" * 1000)
    text = json.dumps({"kind": "gguf", "source": "/a/model.gguf"})
    (converted / references.MARKER).write_text(text)
    incomplete = own_cache / "incomplete"
    incomplete.mkdir()
    snapshot = tmp_path / "hub" / "models--org--some--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"y" * 500)
    after = {entry.reference: entry for entry in known()}
    assert set(after) == {"demo", "smollm2", "/a/model.gguf", "org/some--name"}
    assert after["/a/model.gguf"].size == 1000 + len(text)
    assert "gone" in after["/a/model.gguf"].note
    assert after["org/some--name"].size == 500


def test_removing_deletes_the_copy_and_leaves_the_persons_file(own_cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(b"GGUF")
    converted = own_cache / slug(str(source))
    converted.mkdir(parents=True)
    (converted / "model.safetensors").write_bytes(b"x" * 1000)
    assert remove(str(source)) == 1000
    assert source.exists()
    assert not converted.exists()
    with pytest.raises(ModelError, match="Nothing of"):
        remove(str(source))


def test_a_hub_model_is_removed_from_the_hubs_cache(own_cache: Path, tmp_path: Path) -> None:
    place = tmp_path / "hub" / "models--org--name"
    place.mkdir(parents=True)
    (place / "blob").write_bytes(b"z" * 10)
    assert remove("org/name") == 10
    assert not place.exists()


@pytest.mark.parametrize("text", ["demo", "toy:run-1", "/some/folder"])
def test_what_is_not_ours_to_delete_is_refused(text: str, own_cache: Path) -> None:
    with pytest.raises(ModelError):
        remove(text)
