"""The timeline: all views of a run follow the checkpoint that is chosen, live, at the end and after reopening."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from app.panels.run_page import RunPage
from app.panels.timeline import Timeline
from engine.session import Session

from .conftest import Bench


def shown(page: RunPage, name: str) -> float:
    """The height of the figure's line."""
    return float(page.figures.view(name).figure.y[0, 0])


def test_all_figures_and_curves_follow_the_chosen_checkpoint(bench: Bench) -> None:
    page = bench.open("run", bench.run("sample-filming"))
    timeline = page.timeline
    assert timeline.isVisible()
    assert timeline.slider.maximum() == 3
    assert timeline.words.text() == "step 100 · 4 of 4, latest"
    assert (shown(page, "often"), shown(page, "seldom"), shown(page, "still")) == (100, 100, -1)
    timeline.slider.setFocus()
    QTest.keyClick(timeline.slider, Qt.Key.Key_Left)
    assert timeline.words.text() == "step 10 · 3 of 4"
    assert (shown(page, "often"), shown(page, "seldom"), shown(page, "still")) == (10, 0, -1)
    bench.painted()
    curve = page.plots.tiles[0]
    assert curve._step_line.isVisible()
    assert curve._step_line.value() == 10
    QTest.keyClick(timeline.slider, Qt.Key.Key_End)
    assert (shown(page, "often"), shown(page, "seldom")) == (100, 100)
    bench.painted()
    assert not curve._step_line.isVisible()


def test_a_page_that_looks_back_stays_there_while_its_run_goes_on(bench: Bench) -> None:
    run = bench.workbench.start("sample-filming", {"seconds": 0.03})
    page = bench.open("run", run)
    bench.wait(lambda: page.timeline.isVisible() and page.timeline.slider.maximum() >= 1)
    page.timeline.slider.setValue(0)
    bench.wait_until_ended(run)
    bench.wait(lambda: page.timeline.slider.maximum() == 3)
    assert shown(page, "often") == 0
    assert page.timeline.words.text() == "step 0 · 1 of 4"


def test_a_page_at_the_right_end_follows_its_run(bench: Bench) -> None:
    run = bench.workbench.start("sample-filming", {"seconds": 0.01})
    page = bench.open("run", run)
    bench.wait_until_ended(run)
    bench.wait(lambda: page.timeline.words.text() == "step 100 · 4 of 4, latest")
    bench.wait(lambda: shown(page, "often") == 100)  # the recording is there before the message about it


def test_playing_goes_from_the_first_checkpoint_to_the_last_and_rests(bench: Bench) -> None:
    page = bench.open("run", bench.run("sample-filming"))
    seen: list[float | None] = []
    page.timeline.moved.connect(seen.append)
    bench.qtbot.mouseClick(page.timeline.play, Qt.MouseButton.LeftButton)
    assert page.timeline.play.text() == "Pause movie"
    bench.wait(lambda: page.timeline.play.text() == "Play")
    assert seen == [0.0, 1.0, 10.0, None]


def test_a_saved_session_opens_with_its_movies(own_bench: Bench, tmp_path: Path) -> None:
    bench = own_bench
    run = bench.run("sample-filming")
    bench.workbench.session.save(tmp_path / "film.superscope").wait()
    with Session.open(tmp_path / "film.superscope", copy=True) as session:
        assert session.movie_names(run) == ["often", "seldom"]
        movie = session.movie(run, "often")
        assert movie.steps.tolist() == [0, 1, 10, 100]
        assert [float(frame.y[0, 0]) for frame in movie.frames()] == [0, 1, 10, 100]


@pytest.mark.parametrize("steps", [[], [0.0]])
def test_without_two_checkpoints_there_is_no_timeline(qtbot, steps: list[float]) -> None:
    timeline = Timeline()
    qtbot.addWidget(timeline)
    timeline.set_steps(steps)
    assert not timeline.isVisible()
