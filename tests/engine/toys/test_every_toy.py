"""What holds for every toy: its declaration, its cost, and the finished run of it that ships."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from engine.figures.kinds import Figure, Table
from engine.models.capture import capture
from engine.models.opening import close_models, open_model
from engine.models.toys import planted, stored
from engine.runs.control import Control
from engine.runs.declaration import Experiment, find
from engine.runs.parameters import check
from engine.runs.run import Run
from engine.runs.sinks import MemorySink
from engine.session import Session
from engine.text.corpora import open_corpus
from engine.text.tokens import contexts
from engine.toys.finished import CPU_LIMIT, LIMIT, target, toys

NAMES = [found.name for found in toys()]
# They train many models to compare them, or read one that is there already, and keep none.
SURVEYS = {"backdoor-detection", "memorisation-scaling", "memorisation-quantisation", "story-understanding"}


@pytest.fixture(scope="module")
def finished() -> Iterator[Session]:
    with Session.open(target(), copy=True) as session:
        yield session


def run_of(session: Session, name: str) -> str:
    return next(record.id for record in session.runs() if record.experiment == name)


@pytest.mark.parametrize("name", NAMES)
def test_a_toy_says_what_it_is_how_to_read_it_and_whom_it_follows(name: str) -> None:
    declared: Experiment = find(name)
    assert declared.cites
    assert "how to read it" in declared.help.lower()
    assert "control" in declared.help.lower()
    assert len(declared.help) > 600
    assert declared.metrics
    assert all(metric.definition for metric in declared.metrics.values())
    assert set(declared.parameters.model_fields["size"].annotation.__args__) == {"quick", "demo", "paper"}


@pytest.mark.parametrize("size", ["quick", pytest.param("paper", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_toys_cost_is_known_before_it_starts(name: str, size: str) -> None:
    declared = find(name)
    assert declared.estimate == "toy-estimate"
    sink = MemorySink()
    look = find("toy-estimate")
    look.function(check(look.parameters, {"experiment": name, "parameters": {"size": size}}), Run("", sink, Control()))
    assert 0 < sink.facts["seconds"] < 1e8
    assert str(sink.facts["sentence"]).startswith("About ")


def test_the_finished_runs_are_all_toys_within_the_limits(finished: Session) -> None:
    assert sorted(record.experiment for record in finished.runs()) == sorted(NAMES)
    assert all(record.state == "finished" for record in finished.runs())
    assert target().stat().st_size < LIMIT
    assert sum(float(record.facts.get("cpu_seconds", 0)) for record in finished.runs()) < CPU_LIMIT


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_a_finished_toy_say_what_they_show(finished: Session, name: str) -> None:
    run = run_of(finished, name)
    figures = [finished.figure(run, figure) for figure in finished.figure_names(run)]
    assert figures
    for figure in figures:
        assert figure.title
        assert _axes_are_labelled(figure), figure.title
    for filmed in finished.movie_names(run):
        movie = finished.movie(run, filmed)
        assert len(movie) >= 10, filmed
        assert (np.diff(movie.steps) > 0).all()
        for number in (0, len(movie) // 2, len(movie) - 1):
            assert movie.frame(number).title


def _axes_are_labelled(figure: Figure) -> bool:
    if isinstance(figure, Table):
        return all(axis.label for axis in figure.axes)
    axes = [getattr(figure, name) for name in ("x_axis", "y_axis") if hasattr(figure, name)]
    return all(axis is None or axis.label for axis in axes)


def test_most_toys_have_a_movie(finished: Session) -> None:
    filmed = [record.experiment for record in finished.runs() if finished.movie_names(record.id)]
    assert len(filmed) >= 10


def test_every_toy_keeps_its_model_but_those_that_survey_many(finished: Session) -> None:
    kept = {thing.id for thing in finished.things("models")}
    assert {name for name in NAMES if run_of(finished, name) not in kept} == SURVEYS


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SURVEYS])
def test_the_model_of_a_finished_toy_opens_and_reads_its_own_text(finished: Session, name: str) -> None:
    run = run_of(finished, name)
    try:
        model = open_model(f"toy:{run}", device="cpu", work=finished.work)
        text = contexts(open_corpus(f"toy:{run}", work=finished.work), model, tokens=64, context=128)
        hooks = [point.name for point in model.hook_points() if point.width and point.layer is not None][-1:]
        for reference in (attributes_and_arrays(finished, run),):
            found = planted(*reference)
            for hook, (names, directions) in found.items():
                assert directions.shape == (len(names), model.check_hook(hook)), hook
                hooks.append(hook)
        for _, rows in capture(model, text.ids[:8], list(dict.fromkeys(hooks))):
            assert all(np.isfinite(values.numpy()).all() for values in rows.values())
    finally:
        close_models()


def attributes_and_arrays(session: Session, run: str):
    from engine.models.references import parse

    return stored(parse(f"toy:{run}"), session.work)
