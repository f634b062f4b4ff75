"""Outgoing messages: joined, in order, and never in the way of who sends them."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

import numpy as np
import pytest

from engine.figures import Axis, Lines
from engine.runs import messages
from engine.runs.messages import Answered, Kept, Logged, Measured, Message, Progressed, Shown, StateChanged
from engine.runs.outbox import Outbox
from engine.runs.run import Progress


class Gate(io.BytesIO):
    """A stream that takes nothing before it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.reached = threading.Event()

    def write(self, content: Any) -> int:
        self.reached.set()
        assert self.opened.wait(10)
        return super().write(content)


def line(value: float) -> Lines:
    axis = Axis("Step")
    return Lines(title="t", x_axis=axis, y_axis=axis, series=("a",), x=np.zeros(1), y=np.array([value]))


def through(sent: list[Message]) -> list[Message]:
    """What arrives of ``sent`` when all of it is sent while the stream is busy with one earlier message."""
    gate = Gate()
    outbox = Outbox(gate)
    outbox.put(Logged("", "info", "first"))
    assert gate.reached.wait(10)
    for message in sent:
        outbox.put(message)
    gate.opened.set()
    outbox.close()
    stream = io.BytesIO(gate.getvalue())
    found = []
    while (message := messages.read(stream)) is not None:
        found.append(message)
    assert found[0] == Logged("", "info", "first")
    return found[1:]


def rows(*values: float) -> np.ndarray[Any, Any]:
    return np.array([[value, value, 0.0] for value in values])


def test_rows_are_joined_and_of_progress_and_figures_the_newest_is_sent() -> None:
    found = through(
        [
            Measured("a", {"loss": rows(1)}),
            Shown("a", "f", line(1)),
            Progressed("a", Progress(1, 9, "steps", 1.0, 8.0)),
            Measured("b", {"loss": rows(5)}),
            Measured("a", {"loss": rows(2), "l0": rows(7)}),
            Shown("a", "g", line(2)),
            Shown("a", "f", line(3)),
            Progressed("a", Progress(2, 9, "steps", 1.0, 7.0)),
            Measured("a", {"loss": rows(3)}),
        ]
    )
    measured = [message for message in found if isinstance(message, Measured)]
    assert [message.run for message in measured] == ["a", "b"]
    assert np.array_equal(measured[0].rows["loss"], rows(1, 2, 3))
    assert np.array_equal(measured[0].rows["l0"], rows(7))
    shown = {message.name: message.figure for message in found if isinstance(message, Shown)}
    assert {name: figure.y[0, 0] for name, figure in shown.items()} == {"f": 3, "g": 2}  # type: ignore[attr-defined]
    assert [message.progress.done for message in found if isinstance(message, Progressed)] == [2]


def test_nothing_moves_across_a_change_of_state() -> None:
    def state(name: str, facts: int = 0) -> StateChanged:
        return StateChanged("a", {"state": name, "facts": facts})

    found = through(
        [
            state("running"),
            Measured("a", {"loss": rows(1)}),
            Shown("a", "f", line(1)),
            state("running", 1),
            state("running", 2),
            state("stopped"),
            state("running"),
            Measured("a", {"loss": rows(2)}),
            Shown("a", "f", line(2)),
            state("finished"),
        ]
    )
    kinds = [
        (type(message).__name__, message.record["state"] if isinstance(message, StateChanged) else "")
        for message in found
    ]
    assert kinds == [
        ("StateChanged", "running"),
        ("Measured", ""),
        ("Shown", ""),
        ("StateChanged", "stopped"),
        ("StateChanged", "running"),
        ("Measured", ""),
        ("Shown", ""),
        ("StateChanged", "finished"),
    ]
    assert isinstance(found[0], StateChanged)
    assert found[0].record["facts"] == 2, "a record within a state is the newest"


def test_what_cannot_be_sent_is_named_and_the_rest_arrives() -> None:
    found = through([Answered(1, "p", {}, {}, {"odd": np.array([object()])}), Kept("a", "x", [2], "<f8")])
    assert isinstance(found[0], Logged)
    assert found[0].level == "error"
    assert "Answered" in found[0].text
    assert found[1] == Kept("a", "x", [2], "<f8")


def test_an_idle_outbox_delivers_without_waiting_for_more() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as incoming, os.fdopen(writer, "wb") as stream:
        outbox = Outbox(stream)
        outbox.put(Logged("", "info", "now"))
        assert messages.read(incoming) == Logged("", "info", "now")
        outbox.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_reader_that_is_gone_ends_the_outbox_and_no_sender_notices() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "wb")
    outbox = Outbox(stream)
    outbox.put(Logged("", "info", "x"))
    outbox._thread.join(10)
    assert outbox.broken
    outbox.put(Logged("", "info", "y"))
    outbox.close()
    with pytest.raises(BrokenPipeError):
        stream.close()
