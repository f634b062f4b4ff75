"""The engine process: messages in on stdin, messages out on stdout, runs and looks on threads between.

The window starts it as ``python -m engine --engine-process``. It ends when it is told to, or when
its stdin ends, which is how it learns that the window has died.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from engine import places
from engine.runs import catalogue, environment, messages
from engine.runs.looks import LookLane
from engine.runs.messages import Message
from engine.runs.outbox import Outbox
from engine.runs.queue import JobLane

NICE = 19  # the window must never wait for the processor: with this its tick is late by p99 12–18 ms, without by 31–51
OOM_SCORE = 800  # when memory runs out the kernel takes this process before the window
PATIENCE = 8.0  # seconds that runs get to reach their next batch after the window said goodbye
LONG_PATIENCE = 60.0  # … after the window died: nobody waits, and a checkpoint is worth it


class _Leave(BaseException):
    """The system asks the process to end."""


def main(restore: Callable[[Path, str], object]) -> int:
    """Serve one window until it says goodbye or dies.

    Args:
        restore: see `JobLane`.

    Returns:
        The exit status.
    """
    incoming, outgoing = _claim_streams()
    _be_the_first_to_yield()
    _log_crashes()
    outbox = Outbox(outgoing)
    outbox.put(messages.Hello(os.getpid(), environment.versions()))
    threading.excepthook = lambda problem: outbox.put(_defect(problem.exc_value))
    jobs = JobLane(outbox.put, restore)
    looks = LookLane(outbox.put, jobs.give_way)
    _send_catalogue(outbox)
    goodbye = _serve(incoming, outbox, jobs, looks)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # asked a second time it leaves at once
    patience = PATIENCE if goodbye else LONG_PATIENCE
    looks.close(0.0)
    jobs.close(patience)
    outbox.close()
    return 0


def _serve(incoming: BinaryIO, outbox: Outbox, jobs: JobLane, looks: LookLane) -> bool:
    """Answer messages until the last one. True when it was a goodbye, False when the stream ended."""
    try:
        signal.signal(signal.SIGTERM, _leave)
        while (message := messages.read(incoming)) is not None:
            if isinstance(message, messages.Shutdown):
                return True
            try:
                _handle(message, jobs, looks)
            except Exception as problem:
                outbox.put(_defect(problem))
    except _Leave:
        return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        # A broken frame cannot be skipped: where the next begins is unknown.
        outbox.put(_defect(problem))
    return False


def _handle(message: Message, jobs: JobLane, looks: LookLane) -> None:
    match message:
        case messages.Start():
            jobs.start(message)
        case messages.Pause(run):
            jobs.pause(run)
        case messages.Continue(run):
            jobs.go_on(run)
        case messages.Stop(run):
            jobs.stop(run)
        case messages.Act(run, action, values):
            jobs.act(run, action, values)
        case messages.Move(run, place):
            jobs.move(run, place)
        case messages.Ask():
            looks.ask(message)
        case messages.Cancel(look):
            looks.cancel(look)
        case messages.UseSession(work):
            looks.work = Path(work) if work else None
        case _:
            raise TypeError(f"{type(message).__name__} is not for the engine")


def _send_catalogue(outbox: Outbox) -> None:
    from engine.runs.declaration import experiments, unusable

    try:
        described = [experiment.describe() for experiment in experiments().values()]
    except Exception as problem:
        outbox.put(_defect(problem))
        return
    outbox.put(messages.Catalogue(described))
    for sentence in unusable():
        outbox.put(messages.Logged("", "warning", sentence))
    catalogue.write(described)


def _defect(problem: BaseException | None) -> messages.Logged:
    trace = "".join(traceback.format_exception(problem)) if problem is not None else ""
    return messages.Logged("", "error", f"The engine met an error it has no words for: {problem!r}\n{trace}".strip())


def _leave(number: int, frame: FrameType | None) -> None:
    raise _Leave


def _claim_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for messages alone.

    What libraries print goes to stderr from here on, at the level of file descriptors too, and
    child processes get no hold of the pipes: they could swallow frames or keep the window from
    seeing our end.
    """
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, 1):
            msvcrt.setmode(descriptor, os.O_BINARY)
    incoming, outgoing = os.dup(0), os.dup(1)  # not inheritable, as everything that Python duplicates
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # a program without console has no stderr
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    os.close(nothing)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stdout = sys.stderr
    return os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb")


def _be_the_first_to_yield() -> None:
    """Lowest priority and first to go when memory runs out; torch's worker threads inherit it later."""
    # Workers that wait by spinning are put on the core that the window uses, where they get no time, and
    # everybody waits for them: with one busy neighbour on two cores training fell from 300,000 activations/s
    # to some hundred; asleep they are woken where there is room (120,000). Undisturbed it costs a quarter
    # with the smallest matrices.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Ctrl+C in the terminal that started the window goes to its children too; the window decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        with contextlib.suppress(OSError):  # not allowed in some containers; it runs at normal priority then
            os.nice(NICE)
            # On Linux the number belongs to each thread, and numpy's workers are there already.
            for thread in os.listdir("/proc/self/task") if sys.platform == "linux" else ():
                os.setpriority(os.PRIO_PROCESS, int(thread), NICE)
    else:
        import psutil

        with contextlib.suppress(psutil.Error):
            psutil.Process().nice(psutil.IDLE_PRIORITY_CLASS)
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as out:
            out.write(str(OOM_SCORE))


def _log_crashes() -> None:
    """Let a crash in native code leave the Python stack in the logs folder."""
    with contextlib.suppress(OSError):  # without the folder a crash is only named by its signal
        places.logs().mkdir(parents=True, exist_ok=True)
        log = (places.logs() / "engine-crash.log").open("a", encoding="utf-8")  # stays open: written in the crash
        faulthandler.enable(log)
