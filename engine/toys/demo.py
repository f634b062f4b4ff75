"""``python -m engine.toys.demo``: train the demo model again and rebuild the demo session.

Everything in the demo session is a recorded run of a real experiment: the model's own training, a
PCA spectrum of its residual stream and a small dictionary trained on it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine.api import RunResult, run
from engine.errors import SuperscopeError
from engine.session import Session
from engine.text import stories

SESSION_NAME = "demo.superscope"
MODEL_LIMIT, SESSION_LIMIT = 4_000_000, 2_000_000  # bytes that may ship
TOLERANCE = 0.02  # nats/token above the floor that the demo model may be
SEED = 0

TRAINING: dict[str, Any] = {"size": "demo", "seed": SEED}
SPECTRUM: dict[str, Any] = {"model": "demo", "text": "stories", "hook": "blocks.0.hook_resid_post", "tokens": 20_000}
DICTIONARY: dict[str, Any] = {
    "model": "demo",
    "text": "stories",
    "hook": "blocks.0.hook_resid_post",
    "tokens": 40_000,
    "width": 256,
    "k": 8,
    "batch": 1024,
    "steps": 600,
    "threads": 1,
}

NOTES = """\
# Demo session

A two-layer transformer was trained on stories from a grammar whose probabilities are known exactly
(`tiny-language-model-1`). No model can do better than {floor:.4f} nats a token; this one reaches {loss:.4f}.

* Open its *Slots* table to see which words it has to guess and which it copies.
* `pca-spectrum-1` shows how many directions its residual stream uses after the first block.
* `train-dictionary-1` splits the same activations into {width} sparse latents.

This is a copy: change, delete and try what you like.
"""


class DemoError(SuperscopeError):
    """The demo could not be built as it has to ship."""


def train_model(session: Session) -> RunResult:
    """Train the demo model in ``session`` and put it where the program finds it.

    Raises:
        DemoError: its loss is too far from the floor, or its files are too large.
    """
    from engine.models.native import demo_folder, write_native

    trained = run("tiny-language-model", session=session, **TRAINING)
    excess = trained.last("test_loss") - trained.last("floor")
    if excess > TOLERANCE:
        raise DemoError(
            f"The demo model is {excess:.4f} nats/token above the floor, more than {TOLERANCE}; train longer."
        )
    (thing,) = [thing for thing in session.things("models") if thing.id == trained.id]
    names = session.thing_array_names("models", trained.id)
    arrays = {name: session.thing_array("models", trained.id, name)[()] for name in names}
    kept = ("kind", "config", "vocabulary", "trained_on", "test_loss", "entropy_floor")
    write_native(demo_folder(), {"reference": "demo", **{key: thing.attributes[key] for key in kept}}, arrays)
    _check_size(sum(path.stat().st_size for path in demo_folder().glob("model.*")), MODEL_LIMIT, "model")
    return trained


def build_session(session: Session, trained: RunResult, target: Path) -> list[RunResult]:
    """Add the other runs to ``session``, save it as ``target`` and its dictionary beside it in SAELens' format.

    Raises:
        DemoError: the file is too large.
    """
    others = [run("pca-spectrum", session=session, **SPECTRUM), run("train-dictionary", session=session, **DICTIONARY)]
    session.delete("corpora", trained.id)  # the model's own stories, of which the text `stories` has more
    session.rename("runs", trained.id, "Train the demo model")
    session.set_notes(NOTES.format(floor=stories.floor(), loss=trained.last("test_loss"), width=DICTIONARY["width"]))
    session.save(target).wait()
    _check_size(target.stat().st_size, SESSION_LIMIT, "session")
    folder = target.parent / "dictionary"  # written once the session is, which is not to hold that run
    shutil.rmtree(folder, ignore_errors=True)
    run("export-dictionary", session=session, dictionary=others[1].id, folder=str(folder))
    return others


def _check_size(size: int, limit: int, what: str) -> None:
    print(f"demo {what}: {size:,} bytes")
    if size > limit:
        raise DemoError(
            f"The demo {what} has {size:,} bytes, more than the {limit:,} that may ship; make its runs smaller."
        )


def main(arguments: list[str] | None = None) -> int:
    """Rebuild model and session in ``resources/demo``; 0, or 1 with a sentence on stderr."""
    from engine.models.native import demo_folder

    parser = argparse.ArgumentParser(
        prog="python -m engine.toys.demo", description="Rebuild the demo model and session."
    )
    parser.add_argument("--model-only", action="store_true", help="train the model and leave the demo session alone")
    wanted = parser.parse_args(arguments)
    results = []
    try:
        with tempfile.TemporaryDirectory(prefix="superscope-demo-") as folder:
            session = Session.create(title="Demo")
            try:
                session.save(Path(folder) / SESSION_NAME).wait()
                results.append(train_model(session))
                if not wanted.model_only:
                    results += build_session(session, results[0], demo_folder() / SESSION_NAME)
            finally:
                session.close(discard=True)
    except SuperscopeError as problem:
        print(problem, file=sys.stderr)
        return 1
    for result in results:
        last = ", ".join(f"{name} {result.last(name):.4g}" for name in result.metrics)
        print(f"{result.id}: {last} ({result.elapsed:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
