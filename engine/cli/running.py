"""``superscope run`` and ``superscope resume``."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine import files, places
from engine.api import SessionStore, Store, TemporaryStore, carry_out, open_session, sweep_label
from engine.cli import DONE, FAILED, INTERRUPTED
from engine.cli.arguments import say
from engine.cli.interrupts import Interrupts, in_thread
from engine.cli.printing import duration, last_values, metric_lines, print_json, run_object
from engine.cli.progress import ProgressSink
from engine.errors import ParameterError, SuperscopeError
from engine.runs import sweeps
from engine.runs.control import Control
from engine.runs.declaration import Experiment, find
from engine.runs.parameters import Parameters, check, parse_setting, sweep, swept
from engine.runs.recording import Recording, RunRecord


class CannotResume(SuperscopeError):
    """A run is in a state from which it cannot go on."""


def run(name: str, settings: Sequence[str], params: str | None, session: str | None, *, as_json: bool) -> int:
    """Run an experiment once, or once per value of a sweep; returns the exit status."""
    experiment = find(name)
    values = _read_params(params) if params else {}
    values |= dict(parse_setting(text, experiment.parameters) for text in settings)
    each = sweep(experiment.parameters, values)
    names = swept(experiment.parameters, values)
    if session is None:
        store = TemporaryStore()
        try:
            return _Command(experiment, store, as_json, names, scratch=store.work).run(each)
        finally:
            store.delete()
    with open_session(Path(session)) as opened:
        return _Command(experiment, SessionStore(opened), as_json, names).run(each)


def resume(session: str, run: str, *, as_json: bool) -> int:
    """Go on with a stopped or interrupted run of a session; returns the exit status."""
    with open_session(Path(session), make=False) as opened:
        record = opened.run(run)
        if record.state not in ("stopped", "interrupted") and not (record.state == "failed" and record.checkpoint):
            raise CannotResume(
                f"{run} in {session} is {record.state}; only stopped and interrupted runs can be resumed."
            )
        experiment = find(record.experiment)
        parameters = check(experiment.parameters, record.parameters)
        return _Command(experiment, SessionStore(opened), as_json, []).run([parameters], opened.run_folder(run))


class _Command:
    """One command's runs, one after another, in ``store``."""

    def __init__(
        self, experiment: Experiment, store: Store, as_json: bool, swept: list[str], scratch: Path | None = None
    ) -> None:
        self.experiment = experiment
        self.store = store
        self.as_json = as_json
        self.swept = swept
        self.interrupts = Interrupts(scratch)
        self.objects: list[dict[str, Any]] = []

    def run(self, each: Sequence[Parameters], folder: Path | None = None) -> int:
        """Run all, save, print; the exit status."""
        states = []
        label = sweep_label(self.swept)
        with self.interrupts.handled():
            try:
                for parameters in each:
                    states.append(self._one(parameters, label, folder))
                    if self.interrupts.asked:
                        break
            finally:
                self.interrupts.control = None
                sweeps.ended(label)
                self.store.save()
        if self.as_json:
            print_json(self.objects if self.swept else self.objects[0])
        if self.interrupts.asked and (states[-1] == "interrupted" or len(states) < len(each)):
            return INTERRUPTED
        return FAILED if "failed" in states else DONE

    def _one(self, parameters: Parameters, label: str, folder: Path | None) -> str:
        control = self.interrupts.control = Control()
        sink = ProgressSink(self.experiment.name)
        began = time.monotonic()
        try:
            record, folder = in_thread(
                lambda: carry_out(
                    self.experiment, parameters, self.store, sweep=label, sinks=(sink,), control=control, folder=folder
                )
            )
        finally:
            sink.close()
        self._report(record, Recording(folder), time.monotonic() - began)
        return record.state

    def _report(self, record: RunRecord, recording: Recording, seconds: float) -> None:
        found = last_values({name: recording.metric(name) for name in recording.metric_names()})
        known = self.experiment.metrics
        metrics = {
            name: found[name] for name in [*(n for n in known if n in found), *(n for n in found if n not in known)]
        }
        self.objects.append(run_object(record, metrics, recording.figure_names()))
        say(f"{record.id} {record.state} after {duration(seconds)}.")
        if record.error:
            say(record.error)
        if record.traceback:
            self._point_to_traceback(record)
        if self.as_json:
            return
        if self.swept:
            values = ", ".join(f"{name}={json.dumps(record.parameters[name])}" for name in self.swept)
            print(f"{record.id} ({values})")
        for line in metric_lines(metrics, known):
            print(line, flush=True)

    def _point_to_traceback(self, record: RunRecord) -> None:
        path = places.logs() / f"{record.id}-{time.strftime('%Y%m%d-%H%M%S')}.txt"
        with contextlib.suppress(files.DiskError):  # the sentence has been said; only its details are missing then
            files.write_bytes(path, record.traceback.encode("utf-8", "backslashreplace"), durable=False)
            say(f"The traceback is in {path}.")


def _read_params(path: str) -> dict[str, Any]:
    try:
        values = json.loads(Path(path).read_bytes())
    except OSError as problem:
        raise ParameterError(f"--params {path} cannot be read ({problem.strerror}); name a JSON file.") from None
    except (ValueError, RecursionError) as problem:
        raise ParameterError(
            f"--params {path} is not JSON ({problem}); it should hold an object of parameters."
        ) from None
    if not isinstance(values, dict):
        raise ParameterError(f'--params {path} holds no JSON object; write {{"name": value, …}}.')
    return values
