"""Movies in the session file: saved, read lazily, restored for a resumption, and refused when damaged."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from engine.figures.kinds import Axis, Heatmap
from engine.runs.recording import Recording, RecordingWriter
from engine.session import Session, SessionError
from engine.session.finding import restore_recording
from tests.engine.session.making import record
from tests.engine.session.test_arrays import same


def frame(value: float) -> Heatmap:
    values = np.full((64, 64), value, dtype=np.float32)
    x = np.arange(64, dtype=np.float32)
    return Heatmap(
        title="Map",
        x_axis=Axis("x"),
        y_axis=Axis("y"),
        value_axis=Axis("v"),
        values=values,
        x=x,
        y=x,
        levels=(0.0, 9.0),
    )


def film(writer: RecordingWriter) -> None:
    for step in (0, 3, 9):
        writer.figure("map", frame(step), step)


@pytest.fixture
def saved_film(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "film.superscope"
    with Session.create("Film") as session:
        id = record(session, state="stopped", more=film).id
        session.save(path).wait()
    return path, id


def test_frames_are_read_from_the_file_as_they_were_shown(saved_film: tuple[Path, str]) -> None:
    path, id = saved_film
    with Session.open(path) as session:
        assert session.movie_names(id) == ["map"]
        movie = session.movie(id, "map")
        assert movie.steps.tolist() == [0, 3, 9]
        for number, step in enumerate((0, 3, 9)):
            same(movie.frame(number), frame(step))


def test_a_saved_run_that_is_resumed_has_its_movie_back(saved_film: tuple[Path, str]) -> None:
    path, id = saved_film
    with Session.open(path) as session:
        folder = restore_recording(session.work, id)
        movie = Recording(folder).movie("map")
        assert movie.steps.tolist() == [0, 3, 9]
        same(movie.frame(1), frame(3))


def test_a_movie_without_a_step_for_each_frame_is_refused(saved_film: tuple[Path, str]) -> None:
    path, id = saved_film
    with h5py.File(path, "r+") as file:
        group = file[f"runs/{id}/movies/map"]
        del group["steps"]
        group["steps"] = np.zeros(2)
    with Session.open(path) as session, pytest.raises(SessionError, match="frames without steps"):
        session.movie(id, "map")


def test_a_saved_run_keeps_the_order_in_which_it_showed_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "order.superscope"
    with Session.create("Order") as session:
        id = record(session, figures={"z": frame(1), "a": frame(2), "m": frame(3)}).id
        session.save(path).wait()
    with Session.open(path) as session:
        assert session.figure_names(id) == ["z", "a", "m"]
