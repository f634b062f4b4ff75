"""Movies: frames come back as they were shown, after a kill and after a resumption too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.figures.kinds import Axis, Figure, Heatmap, Scatter
from engine.runs.movies import MovieError, MovieWriter, mend, read
from engine.runs.recording import Recording, RecordingWriter, RunRecord
from tests.engine.session.test_arrays import same


def frame(value: float, points: int = 3, title: str = "Points") -> Scatter:
    return Scatter(
        title=title,
        x_axis=Axis("x"),
        y_axis=Axis("y"),
        points=np.full((points, 2), value, dtype=np.float32),
        label=np.array([f"f{i}" for i in range(points)]),
    )


def test_frames_come_back_as_they_were_shown(tmp_path: Path) -> None:
    writer = MovieWriter(tmp_path)
    for step in (0, 1, 10, 100):
        writer.append(step, frame(step))
    movie = read(tmp_path)
    assert movie.steps.tolist() == [0, 1, 10, 100]
    for number, shown in enumerate(movie.frames()):
        same(shown, frame(movie.steps[number]))


@pytest.mark.parametrize(("step", "number"), [(-1, 0), (0, 0), (0.5, 0), (1, 1), (50, 2), (1e9, 3)])
def test_the_frame_of_a_step_is_the_last_at_or_before_it(tmp_path: Path, step: float, number: int) -> None:
    writer = MovieWriter(tmp_path)
    for shown in (0, 1, 10, 100):
        writer.append(shown, frame(shown))
    assert read(tmp_path).at(step) == number


@pytest.mark.parametrize(
    "other",
    [
        frame(1, points=4),
        frame(1, title="Other"),
        Heatmap(
            title="Points",
            x_axis=Axis("x"),
            y_axis=Axis("y"),
            value_axis=Axis("v"),
            values=np.zeros((2, 2)),
            x=np.arange(2),
            y=np.arange(2),
        ),
    ],
)
def test_a_frame_of_another_form_is_refused_and_the_movie_stays(tmp_path: Path, other: Figure) -> None:
    writer = MovieWriter(tmp_path)
    writer.append(0, frame(0))
    with pytest.raises(MovieError, match="differ in more than their numbers"):
        writer.append(1, other)
    assert len(read(tmp_path)) == 1


def test_a_resumed_run_replaces_the_frames_from_where_it_goes_on(tmp_path: Path) -> None:
    first = MovieWriter(tmp_path)
    for step in (0, 1, 10, 100):
        first.append(step, frame(step))
    again = MovieWriter(tmp_path)
    again.append(10, frame(7))
    movie = read(tmp_path)
    assert movie.steps.tolist() == [0, 1, 10]
    same(movie.frame(2), frame(7))


def test_what_a_kill_left_of_a_frame_is_not_seen_and_goes_away(tmp_path: Path) -> None:
    writer = MovieWriter(tmp_path)
    writer.append(0, frame(0))
    with open(tmp_path / "points.raw", "ab") as out:
        out.write(b"torn")
    same(read(tmp_path).frame(0), frame(0))
    mend(tmp_path)
    MovieWriter(tmp_path).append(5, frame(5))
    movie = read(tmp_path)
    same(movie.frame(1), frame(5))


def test_a_step_makes_a_figure_a_frame_of_the_recordings_movie(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path, RunRecord("toy-1", "toy", {}))
    writer.figure("plain", frame(3))
    for step in (0, 4):
        writer.figure("a: moving", frame(step), step)
    recording = Recording(tmp_path)
    assert recording.movie_names() == ["a: moving"]
    same(recording.figure("a: moving"), frame(4))
    assert recording.movie("a: moving").steps.tolist() == [0, 4]
