"""The experiment as a person runs it: quick, stopped and resumed, and the model it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ParameterError
from engine.figures import Heatmap, Lines, Table, TokenStrip
from engine.models.native import load_native
from engine.runs.control import Control
from engine.runs.declaration import find
from engine.runs.execute import execute
from engine.runs.parameters import check
from engine.runs.recording import Recording
from engine.text import stories
from engine.toys.stories.training import story_losses

TINY = {"size": "quick", "steps": 45, "stories": 200, "layers": 1, "d_model": 16, "heads": 2, "batch": 4, "seed": 7}


class StopAt:
    """A sink that stops the run when the training loss of ``step`` arrives."""

    def __init__(self, control: Control, step: int) -> None:
        self.control, self.step = control, step

    def metrics(self, rows: dict[str, tuple[float, float, float]]) -> None:
        if rows.get("loss", (-1,))[0] == self.step:
            self.control.stop()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def start(folder: Path, values: dict[str, Any], stop: int = 0, resume: bool = False) -> Recording:
    found = find("tiny-language-model")
    control = Control()
    record = execute(found, check(found.parameters, values), folder, [StopAt(control, stop)], control, resume)
    assert record.state == ("stopped" if stop else "finished"), record.traceback
    return Recording(folder)


def test_a_quick_run_learns_more_than_word_pairs(tmp_path: Path) -> None:
    recording = start(tmp_path / "tiny-language-model-1", {"size": "quick"})
    record = recording.record()
    test_loss = recording.metric("test_loss")
    ladder = record.facts["ladder"]
    assert test_loss[-1, 1] < 1.0 < ladder["2-gram"]
    assert ladder["3-gram"] < ladder["2-gram"] < ladder["1-gram"]
    assert ladder["entropy floor"] == pytest.approx(stories.floor(), abs=0.01)
    assert recording.metric("loss")[:, 0].tolist() == list(range(1, 61))
    assert test_loss[:, 0].tolist() == [20, 40, 60]

    lines = recording.figure("loss")
    assert isinstance(lines, Lines)
    assert set(lines.reference) == {"entropy floor", "1-gram", "2-gram", "3-gram"}
    assert lines.y[0].tolist() == recording.metric("loss")[:, 1].tolist()
    assert lines.y[1, :3].tolist() == test_loss[:, 1].tolist()

    table = recording.figure("slots")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    weights = columns["Tokens"] / columns["Tokens"].sum()
    # The slots together are the held-out loss, the floor and the control.
    assert (weights * columns["Model loss"]).sum() == pytest.approx(test_loss[-1, 1], abs=1e-9)
    assert (weights * columns["Entropy floor"]).sum() == pytest.approx(stories.floor(), abs=0.001)
    assert (weights * columns["3-gram loss"]).sum() == pytest.approx(ladder["3-gram"], abs=1e-9)
    assert columns["Tokens"][list(columns["Slot"]).index("name 3")] == 200

    strip = recording.figure("story")
    assert isinstance(strip, TokenStrip)
    first = stories.from_code(int(recording.kept("held_out_stories")[0]))
    assert strip.tokens.tolist() == [*first.words, "<end>"]


def test_the_model_joins_the_session_and_is_the_one_that_was_measured(tmp_path: Path) -> None:
    recording = start(tmp_path / "tiny-language-model-4", TINY)
    things = {section: (id, attributes, arrays) for section, id, attributes, arrays in recording.things()}
    assert things.keys() == {"models", "corpora"}
    id, attributes, arrays = things["models"]
    assert (id, attributes["reference"]) == ("tiny-language-model-4", "toy:tiny-language-model-4")
    bridge = load_native(attributes, arrays)
    held_out = [stories.from_code(int(code)) for code in recording.kept("held_out_stories")]
    loss = float(story_losses(bridge, held_out, 128).mean())
    assert loss == pytest.approx(recording.metric("test_loss")[-1, 1], abs=1e-6)
    assert attributes["test_loss"] == recording.metric("test_loss")[-1, 1]


def test_the_stories_kept_beside_the_model_carry_what_the_grammar_knows(tmp_path: Path) -> None:
    recording = start(tmp_path / "tiny-language-model-1", TINY | {"steps": 2})
    things = {section: (attributes, arrays) for section, _, attributes, arrays in recording.things()}
    names, arrays = things["corpora"][0]["features"], things["corpora"][1]
    assert sum(array.nbytes for array in arrays.values()) <= 1_000_000
    assert arrays["features"].dtype == np.uint8
    tokens, counted, features = (arrays[name] for name in ("tokens", "counted", "features"))
    assert tokens[:, 0].tolist() == [stories.WORD_IDS["<start>"]] * len(tokens)
    assert not counted[:, 0].any()
    assert not features[~counted].any()
    held_out = [stories.from_code(int(code)) for code in recording.kept("held_out_stories")[:3]]
    place = 1
    for story in held_out:
        known = story.latents
        for word, id in enumerate(story.ids):
            assert tokens[0, place] == id
            expected = {f"{name}={stories.LATENTS[name][at[word]]}" for name, at in known.items() if at[word] >= 0}
            assert {names[number] for number in np.flatnonzero(features[0, place])} == expected
            place += 1


def test_the_movie_is_of_the_loss_by_slot_beside_its_floor(tmp_path: Path) -> None:
    movie = start(tmp_path / "tiny-language-model-1", {"size": "quick"}).movie("learning")
    assert movie.steps[0] == 0
    assert movie.steps[-1] == 60
    first, last = movie.frame(0), movie.frame(len(movie) - 1)
    assert isinstance(first, Heatmap)
    assert isinstance(last, Heatmap)
    assert first.values[0].mean() == pytest.approx(np.log(68), abs=0.6)  # untrained: any word
    assert last.values[0].mean() < 1.2
    assert last.values[1] == pytest.approx(list(stories.slot_floors().values()))
    assert np.array_equal(first.values[1:], last.values[1:])


def test_the_cost_is_known_before_the_start() -> None:
    from engine.toys.costs import _costs

    found = _costs["tiny-language-model"](check(find("tiny-language-model").parameters, {}))
    assert 5 < found.seconds < 600
    assert 50_000_000 < found.memory < 2_000_000_000


# 20 and 40 are steps at which it is measured and kept; 20 stops right behind, 33 between two, 1 before any.
@pytest.mark.parametrize("stop", [1, 20, 33])
def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    through = start(tmp_path / "through" / "tiny-language-model-1", TINY)
    folder = tmp_path / "stopped" / "tiny-language-model-1"
    stopped = start(folder, TINY, stop=stop)
    assert len(stopped.metric("loss")) == stop
    resumed = start(folder, TINY, resume=True)
    for name in ("loss", "test_loss", "floor"):
        assert np.array_equal(through.metric(name)[:, :2], resumed.metric(name)[:, :2]), name
    for (_, _, _, expected), (_, _, _, found) in zip(through.things(), resumed.things(), strict=True):
        assert expected.keys() == found.keys()
        assert all(np.array_equal(expected[name], found[name]) for name in expected)
    film, film_again = through.movie("learning"), resumed.movie("learning")
    assert np.array_equal(film.steps, film_again.steps)
    assert np.array_equal(film.stacks["values"], film_again.stacks["values"])
    lines, again = through.figure("loss"), resumed.figure("loss")
    assert isinstance(lines, Lines)
    assert isinstance(again, Lines)
    assert np.array_equal(lines.y, again.y, equal_nan=True)


def test_a_run_killed_between_checkpoints_goes_on_from_the_last(tmp_path: Path) -> None:
    through = start(tmp_path / "through" / "tiny-language-model-1", TINY)
    folder = tmp_path / "killed" / "tiny-language-model-1"
    # What a kill at step 27 leaves: the checkpoint of step 20 and metric rows behind it.
    start(folder, TINY, stop=20)
    extra = np.array([[21, 9.0, 1.0], [22, 9.0, 1.0]])
    with open(folder / "metrics" / "loss.f64", "ab") as out:
        out.write(extra.astype("<f8").tobytes())
    resumed = start(folder, TINY, resume=True)
    assert np.array_equal(through.metric("loss")[:, :2], resumed.metric("loss")[:, :2])


def test_another_seed_gives_other_stories_and_weights(tmp_path: Path) -> None:
    one = start(tmp_path / "one", TINY | {"steps": 2})
    other = start(tmp_path / "other", TINY | {"steps": 2, "seed": 8})
    assert not np.array_equal(one.kept("training_stories"), other.kept("training_stories"))
    assert not np.array_equal(one.metric("loss")[:, 1], other.metric("loss")[:, 1])


def test_an_attention_only_model_of_other_shape_trains(tmp_path: Path) -> None:
    values = TINY | {"attention_only": True, "layers": 2, "context": 64, "steps": 3}
    recording = start(tmp_path / "tiny-language-model-1", values)
    _, _, attributes, arrays = next(thing for thing in recording.things() if thing[0] == "models")
    assert attributes["config"]["attn_only"]
    assert not [name for name in arrays if "mlp" in name]
    assert arrays["pos_embed.weight"].shape == (64, 16)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"context": 41}, "context=41"),
        ({"heads": 3}, "d_model=64 cannot be shared out among heads=3"),
        ({"size": "huge"}, "size="),
        ({"steps": 0}, "steps=0"),
        ({"lr": float("nan")}, "lr="),
    ],
)
def test_parameters_out_of_bounds_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find("tiny-language-model").parameters, values)
    assert said in str(problem.value)
