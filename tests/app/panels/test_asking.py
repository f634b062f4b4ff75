"""Questions to the engine: after a pause, newest only."""

from __future__ import annotations

import pytest

from app.panels.asking import Asker
from engine.runs.run import Progress

from .fakes import Looks

SOON = 20  # ms


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
def asker(qtbot, looks: Looks) -> Asker:
    return Asker(looks, "activations-1", "activations")


def test_typing_asks_once_after_the_pause_with_what_was_typed_last(qtbot, looks: Looks, asker: Asker) -> None:
    for text in ("T", "Th", "The"):
        asker.ask({"prompt": text}, pause=SOON)
    assert looks.asked == []
    qtbot.waitUntil(lambda: bool(looks.asked))
    assert looks.asked == [{"prompt": "The"}]
    assert asker.asked == {"prompt": "The"}


def test_an_answer_to_an_older_question_is_ignored(looks: Looks, asker: Asker) -> None:
    heard = []
    asker.answered.connect(lambda said: heard.append(said.facts["of"]))
    asker.failed.connect(lambda *words: heard.append(words))
    asker.ask({"prompt": "a"}, pause=0)
    asker.ask({"prompt": "b"}, pause=0)
    looks.answer(2, facts={"of": "b"})
    looks.answer(1, facts={"of": "a"})
    looks.answer(1, error="too late")
    assert heard == ["b"]


def test_a_question_that_waits_does_not_silence_the_answer_to_the_one_that_is_out(looks: Looks, asker: Asker) -> None:
    heard: list[str] = []
    states: list[bool] = []
    asker.answered.connect(lambda said: heard.append(said.facts["of"]))
    asker.waiting.connect(states.append)
    asker.ask({"prompt": "a"}, pause=0)
    asker.ask({"prompt": "ab"}, pause=10_000)
    looks.answer(1, facts={"of": "a"})
    assert heard == ["a"]
    assert states == [True], "the picture stays dimmed: another answer is on its way"
    asker.cancel()


def test_partial_answers_pass_and_the_last_ends_the_waiting(looks: Looks, asker: Asker) -> None:
    heard: list[int] = []
    asker.answered.connect(lambda said: heard.append(said.facts["part"]))
    asker.ask({}, pause=0)
    looks.answer(1, facts={"part": 1}, done=False)
    assert asker.is_waiting
    looks.answer(1, facts={"part": 2})
    assert heard == [1, 2]
    assert not asker.is_waiting


def test_an_error_is_told_as_a_sentence_with_details(looks: Looks, asker: Asker) -> None:
    heard: list[tuple[str, str]] = []
    asker.failed.connect(lambda text, details: heard.append((text, details)))
    asker.ask({}, pause=0)
    looks.answer(1, error="The prompt is empty; type something.", traceback="Traceback …")
    assert heard == [("The prompt is empty; type something.", "Traceback …")]
    assert not asker.is_waiting


def test_after_cancelling_nothing_is_heard_and_the_engine_is_told(looks: Looks, asker: Asker) -> None:
    heard: list[object] = []
    asker.answered.connect(heard.append)
    asker.progressed.connect(heard.append)
    asker.ask({}, pause=0)
    asker.cancel()
    looks.progress(1, Progress(1, 2, "bytes", 1.0, 1.0))
    looks.answer(1)
    assert heard == []
    assert looks.cancelled == [1]
    assert not asker.is_waiting


def test_progress_of_the_newest_question_is_told(looks: Looks, asker: Asker) -> None:
    heard: list[Progress] = []
    asker.progressed.connect(heard.append)
    asker.ask({}, pause=0)
    looks.progress(1, Progress(0, None, "", 0.0, None, "Opening smollm2"))
    assert [progress.stage for progress in heard] == ["Opening smollm2"]
