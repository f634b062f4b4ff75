"""Models from the hub: fetched by the hub's own client, safetensors only; every failure gets one sentence.

The client reads its settings when it is imported, so each test runs it in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.models.errors import ModelError
from engine.models.opening import open_model
from tests.engine.models.fake_hub import serving

NAME = "org/tiny"
FETCH = """
import json, sys
from engine.errors import SuperscopeError
from engine.models import hub
from engine.runs.control import RunStopped
from engine.runs.run import Run
from engine.runs.sinks import MemorySink

class Sink(MemorySink):
    def progress(self, progress):
        if progress.unit == "MB":
            heard.append([progress.done, progress.total])
            if {stop}:
                run.control.stop()

heard, run = [], None
run = Run("open-model-1", Sink())
try:
    found = {what}
except SuperscopeError as problem:
    print(json.dumps({{"error": str(problem)}}))
except RunStopped:
    print(json.dumps({{"stopped": True}}))
else:
    print(json.dumps({{"found": found, "heard": heard}}))
"""


def ask(home: Path, endpoint: str, what: str, *, stop: bool = False, offline: bool = False) -> dict[str, Any]:
    """Evaluate ``what`` in a process whose hub is at ``endpoint``."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    program = FETCH.format(what=what, stop=stop)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def remote(tiny_hf: Path, tmp_path: Path) -> Path:
    """The folder that the hub serves: a model with things in it that are not wanted."""
    folder = tmp_path / "remote"
    shutil.copytree(tiny_hf, folder)
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


DOWNLOAD = "str(hub.downloaded('org/tiny', run))"


def test_a_model_is_fetched_with_progress_and_without_code_or_pickles(remote: Path, tmp_path: Path) -> None:
    with serving(remote, NAME) as (endpoint, asked):
        answer = ask(tmp_path / "hf", endpoint, DOWNLOAD)
        folder = Path(answer["found"])
        fetched = len(asked)
        again = ask(tmp_path / "hf", endpoint, DOWNLOAD)
        assert again["found"] == answer["found"]
        assert len(asked) == fetched  # the second time the hub is not even asked
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any(name.endswith((".py", ".bin")) for name in names)
    done, total = answer["heard"][-1]
    assert done <= total + 1e-9
    assert total == pytest.approx(sum((remote / name).stat().st_size for name in names) / 1e6)
    model, original = open_model(str(folder), device="cpu"), open_model(str(remote), device="cpu")
    ids = torch.tensor([model.encode("The fox")])
    with torch.no_grad():
        assert torch.equal(model.bridge(ids), original.bridge(ids))


def test_stop_is_heard_while_a_file_comes(remote: Path, tmp_path: Path) -> None:
    with serving(remote, NAME) as (endpoint, _):
        assert ask(tmp_path / "hf", endpoint, DOWNLOAD, stop=True) == {"stopped": True}
    assert not list((tmp_path / "hf").glob("hub/models--org--tiny/snapshots/*/model.safetensors"))


def test_facts_come_without_weights(remote: Path, tmp_path: Path, tiny_hf: Path) -> None:
    from engine.models.folder import inspect

    with serving(remote, NAME) as (endpoint, asked):
        answer = ask(tmp_path / "hf", endpoint, "hub.look('org/tiny')")
    parameters, facts, here = answer["found"]
    assert not here
    assert facts["layers"] == 2
    assert not any(path.endswith(".safetensors") for path in asked)
    true = inspect(tiny_hf).parameters
    assert true <= parameters <= 3 * true  # the hub said no number, so it is guessed from the files' size


def test_a_repository_with_pickles_only_is_refused_before_anything_is_fetched(remote: Path, tmp_path: Path) -> None:
    (remote / "model.safetensors").unlink()
    with serving(remote, NAME) as (endpoint, asked):
        answer = ask(tmp_path / "hf", endpoint, DOWNLOAD)
    assert "no safetensors" in answer["error"]
    assert len(asked) == 1


def test_without_network_one_sentence_says_so(tmp_path: Path) -> None:
    for answer in (
        ask(tmp_path / "hf", "http://127.0.0.1:9", DOWNLOAD),
        ask(tmp_path / "hf", "http://127.0.0.1:9", DOWNLOAD, offline=True),
    ):
        assert answer["error"].startswith("The hub could not be reached, and org/tiny is not on this machine; check")


def test_a_name_that_is_not_there_and_a_gated_one_are_told_apart(remote: Path, tmp_path: Path) -> None:
    with serving(remote, "org/other") as (endpoint, _):
        assert "no model org/tiny" in ask(tmp_path / "hf", endpoint, DOWNLOAD)["error"]
    with serving(remote, NAME, gated=True) as (endpoint, _):
        assert "gated" in ask(tmp_path / "hf", endpoint, DOWNLOAD)["error"]


def test_a_full_disk_is_said_before_anything_is_fetched(remote: Path, tmp_path: Path) -> None:
    what = (
        "[setattr(__import__('shutil'), 'disk_usage', lambda place: type('U', (), {'free': 1000})()), "
        "str(hub.downloaded('org/tiny', run))]"
    )
    with serving(remote, NAME) as (endpoint, asked):
        answer = ask(tmp_path / "hf", endpoint, what)
    assert "1.0 kB are free" in answer["error"]
    assert not any(path.endswith(".safetensors") for path in asked)


def test_a_model_larger_than_memory_is_refused_before_anything_is_fetched(remote: Path, tmp_path: Path) -> None:
    what = (
        "[setattr(__import__('engine.models.memory').models.memory, 'available', lambda device='cpu': 1000), "
        "str(hub.downloaded('org/tiny', run))]"
    )
    with serving(remote, NAME) as (endpoint, asked):
        answer = ask(tmp_path / "hf", endpoint, what)
    assert "1.0 kB are free" in answer["error"]
    assert len(asked) == 1


def test_in_the_window_too_an_absent_model_without_network_is_one_sentence() -> None:
    with pytest.raises(ModelError, match="could not be reached"):
        open_model("nobody/nothing")
