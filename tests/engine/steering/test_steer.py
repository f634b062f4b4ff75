"""The bench's look: the first token before everything else, equal texts at strength 0, the newest look wins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from engine.errors import ParameterError
from engine.figures.kinds import Bars, Histogram, Table, TokenStrip, pack, unpack
from engine.models.decoding import Decoder
from engine.models.errors import ModelError
from engine.models.opening import OpenModel, open_model
from engine.runs.control import Control, RunStopped
from engine.runs.declaration import find
from engine.runs.looks import LookLane
from engine.runs.messages import Answered, Ask
from engine.runs.parameters import check
from engine.runs.run import Run
from engine.runs.sinks import MemorySink
from engine.steering import steering_look
from engine.steering.errors import SteeringError
from tests.engine.runs.collecting import Collected

PROMPT = "one monday anna went to the park . she felt"


@pytest.fixture(scope="module")
def demo() -> OpenModel:
    """The native model that ships."""
    return open_model("demo", device="cpu")


@pytest.fixture(autouse=True)
def forgotten(demo: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text is kept from another test, and every step is answered."""
    demo.texts.clear()
    monkeypatch.setattr(steering_look, "FLUSH_EVERY", 0.0)


class Flushes:
    """A look's sink, and its facts and figures as they were at each flush."""

    def __init__(self, then: Callable[[int], None] = lambda number: None) -> None:
        self.facts: list[dict[str, Any]] = []
        self.figures: list[list[str]] = []
        self.sink = MemorySink(on_flush=self._flushed)
        self._then = then

    def _flushed(self) -> None:
        self.facts.append(dict(self.sink.facts))
        self.figures.append(list(self.sink.figures))
        self._then(len(self.facts))


def look(flushes: Flushes | None = None, control: Control | None = None, **values: Any) -> MemorySink:
    """Ask the experiment as the bench does."""
    sink = (flushes or Flushes()).sink
    experiment = find("steer")
    parameters = check(experiment.parameters, {"device": "cpu", "prompt": PROMPT} | values)
    experiment.function(parameters, Run("look-1", sink, control))
    return sink


def test_the_first_steered_token_is_answered_before_anything_is_measured() -> None:
    flushes = Flushes()
    look(flushes, new_tokens=6)
    first = flushes.facts[0]
    assert len(first["steered"]["tokens"]) == 1
    assert first["clean"]["tokens"] == []
    assert flushes.figures[0] == []
    assert first["milliseconds_to_first"] > 0
    assert first["prompt_tokens"][-1] == "felt"
    assert first["strength"] == 1.0
    assert first["slider"][0] < first["data_range"][0] < 0 < first["data_range"][1] < first["slider"][1]
    assert first["describe"].endswith(".")
    assert first["set_sizes"]["fitted"] + first["set_sizes"]["held_out"] <= first["set_sizes"]["rows"]
    lengths = [len(facts["steered"]["tokens"]) for facts in flushes.facts]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == lengths[-1]  # every token was shown
    assert "mean_kl" not in flushes.facts[lengths.index(lengths[-1])]


def test_another_strength_shows_the_clean_text_at_once_and_writes_only_the_steered_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = look(new_tokens=8).facts["clean"]
    decoded = []
    own = Decoder.feed

    def feed(decoder: Decoder, ids: Any, **how: Any) -> Any:
        decoded.append(len(ids))
        return own(decoder, ids, **how)

    monkeypatch.setattr(Decoder, "feed", feed)
    flushes = Flushes()
    found = look(flushes, new_tokens=8, strength=2.0).facts
    assert flushes.facts[0]["clean"] == whole == found["clean"]
    prompt = len(found["prompt_tokens"])
    steered = [prompt, *[1] * (len(found["steered"]["ids"]) - 1)]
    assert decoded[: len(steered)] == steered
    measured = [prompt, len(whole["ids"]) - 1]
    assert decoded[len(steered) :] == measured * 2  # KL and its control


def test_a_shorter_look_shows_only_as_much_of_the_clean_text() -> None:
    long, short = look(new_tokens=8).facts, look(new_tokens=3).facts
    assert short["clean"]["ids"] == long["clean"]["ids"][:3]
    assert len(short["marks"]) == len(short["steered"]["ids"]) == 3


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_at_strength_zero_the_texts_are_equal_and_nothing_diverges(temperature: float) -> None:
    found = look(strength=0.0, temperature=temperature)
    facts = found.facts
    assert facts["clean"]["ids"] == facts["steered"]["ids"]
    assert not any([*facts["marks"], *facts["clean_marks"]])
    assert facts["differs_at"] is None
    assert abs(facts["mean_kl"]) < 1e-9
    assert "mean_kl_random" not in facts
    assert facts["changes"]["tokens"] == []


def test_figures_say_what_the_facts_say_and_can_be_stored() -> None:
    found = look(strength=2.5, new_tokens=12)
    assert set(found.figures) == {"logits", "kl", "projections", "texts"}
    for figure in found.figures.values():
        assert "Control" in figure.note or "control" in figure.note
        assert type(unpack(*pack(figure))) is type(figure)
    facts = found.facts
    strip = found.figures["kl"]
    assert isinstance(strip, TokenStrip)
    assert strip.value is not None
    assert list(strip.tokens) == [*facts["prompt_tokens"], *facts["clean"]["tokens"][:-1]]
    behind = strip.value[len(facts["prompt_tokens"]) - 1 :]
    assert facts["mean_kl"] == pytest.approx(behind.mean())
    assert f"{facts['mean_kl_random']:.3g}" in strip.note
    bars = found.figures["logits"]
    assert isinstance(bars, Bars)
    assert np.allclose(bars.value, np.log(facts["changes"]["after"]) - np.log(facts["changes"]["before"]), atol=1e-4)
    violins = found.figures["projections"]
    assert isinstance(violins, Histogram)
    assert violins.samples is not None
    means = dict(zip(violins.groups, np.nanmean(violins.samples, axis=1), strict=True))
    assert means["Negative"] == pytest.approx(-0.5, abs=0.01)
    assert means["Positive"] == pytest.approx(0.5, abs=0.01)
    assert means["Negative, steered"] == pytest.approx(2.0, abs=0.01)


def test_a_method_without_a_direction_has_no_projections() -> None:
    days = ("monday", "tuesday", "wednesday", "thursday", "friday")
    rows = [{"prompt": f"one {day} {name}", "label": day} for day in days for name in ("anna", "clara", "ben")]
    prompts = "\n".join(json.dumps(row) for row in rows)
    found = look(method="circular", prompts=prompts, read_at="prompt", prompt="one monday anna", new_tokens=2)
    assert set(found.figures) == {"logits", "kl", "texts"}
    assert len(found.facts["steered"]["tokens"]) == 2


def test_a_newer_look_stops_this_one_within_a_token() -> None:
    control = Control()
    flushes = Flushes(lambda number: control.stop() if number == 3 else None)
    with pytest.raises(RunStopped):
        look(flushes, control, new_tokens=60, strength=2.0)
    assert len(flushes.facts) == 3
    assert len(flushes.sink.facts["steered"]["tokens"]) == len(flushes.facts[-1]["steered"]["tokens"])
    assert look(new_tokens=60).facts["clean"]["tokens"]  # what was begun is gone on with


@pytest.fixture
def sent() -> Collected:
    return Collected()


@pytest.fixture
def lane(sent: Collected) -> Iterator[LookLane]:
    looks = LookLane(sent, lambda change: None)
    yield looks
    assert looks.close(20.0)


def test_the_lane_answers_while_the_text_grows_and_last_the_newest_look(lane: LookLane, sent: Collected) -> None:
    values = {"device": "cpu", "prompt": PROMPT, "new_tokens": 5}
    for number in range(1, 5):
        lane.ask(Ask(number, "bench", "steer", values | {"strength": number / 2}))
    sent.wait(lambda: any(one.done and one.look == 4 for one in sent.of(Answered)))
    answers = [one for one in sent.of(Answered) if one.look == 4]
    assert [one.done for one in answers] == [False] * (len(answers) - 1) + [True]
    assert len(answers) > 2
    assert {one.facts["strength"] for one in answers} == {2.0}
    assert sent.of(Answered)[-1] is answers[-1]


def test_greedy_is_the_same_for_every_seed_and_draws_are_not() -> None:
    greedy = [look(temperature=0.0, seed=seed, new_tokens=8).facts["clean"]["ids"] for seed in (1, 2)]
    drawn = [look(temperature=1.5, seed=seed, new_tokens=8).facts["clean"]["ids"] for seed in (1, 2)]
    assert greedy[0] == greedy[1]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    "values",
    [{"strength": float("nan")}, {"strength": 101}, {"new_tokens": 0}, {"temperature": -1}, {"top_p": 0}],
)
def test_what_cannot_be_asked_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        check(find("steer").parameters, values)


def test_an_empty_prompt_and_one_that_is_too_long_are_refused_in_a_sentence() -> None:
    with pytest.raises(SteeringError, match="empty"):
        look(prompt="", prepend_bos=False)
    with pytest.raises(ModelError, match="at most 128"):
        look(prompt="anna " * 200)


def test_both_texts_are_among_the_figures_as_the_facts_have_them() -> None:
    found = look(strength=3.0, new_tokens=9)
    facts, table = found.facts, found.figures["texts"]
    assert isinstance(table, Table)
    columns = {axis.label: column.tolist() for axis, column in zip(table.axes, table.columns, strict=True)}
    clean, steered = facts["clean"]["tokens"], facts["steered"]["tokens"]
    count = max(len(clean), len(steered))
    assert columns["Position"] == list(range(1, count + 1))
    for name, tokens in (("Not steered", clean), ("Steered", steered)):
        shown = [text.replace("·", " ").strip() for text in columns[name]]
        assert shown == [*(token.strip() for token in tokens), *[""] * (count - len(tokens))]
    assert "yes" in columns["Differs"]
    assert columns["Differs"].index("yes") == facts["differs_at"]


def test_labels_beside_bars_are_short_enough_for_their_axis() -> None:
    found = look(strength=3.0, new_tokens=1)
    bars = found.figures["logits"]
    assert isinstance(bars, Bars)
    assert max(len(str(name)) for name in bars.label) <= 32
    for name, before, after in zip(
        bars.label, found.facts["changes"]["before"], found.facts["changes"]["after"], strict=True
    ):
        written = str(name).split(" ")[1].split("→")
        for text, value in zip(written, (before, after), strict=True):
            expected = 0.0 if text.startswith("<") else float(text)
            assert expected == pytest.approx(100 * value, rel=0.06, abs=1e-3)
