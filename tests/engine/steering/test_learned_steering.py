"""Learned steering through a model: its task, its passes with a gradient, and the experiment from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.figures import Heatmap, Histogram, Lines, Table
from engine.models.capture import capture
from engine.models.editing import Edit, edited_logits
from engine.models.opening import OpenModel, open_model
from engine.runs.control import Control
from engine.runs.run import Run
from engine.runs.sinks import MemorySink
from engine.steering import learned_task
from engine.steering.errors import SteeringError
from engine.steering.learned import load_learned
from engine.steering.learned_task import Task, make_task
from engine.text.prompt_files import as_jsonl, make_set
from engine.text.prompt_sets import PromptRow, PromptSet
from engine.text.prompts import open_prompts
from tests.engine.toys.running import start, stopped_and_resumed

HOOK = "blocks.1.hook_resid_mid"


def run() -> Run:
    return Run("r", MemorySink(), Control())


@pytest.fixture(scope="module")
def demo() -> OpenModel:
    return open_model("demo", device="cpu")


def objects(stories: int) -> PromptSet:
    prompts = open_prompts("story-objects")
    return make_set(prompts.rows[: 6 * stories], name=prompts.name, reference=prompts.reference)


def task_of(model: OpenModel, prompts: PromptSet, hook: str = HOOK) -> Task:
    return make_task(model, prompts, hook, prepend_bos=True, share=0.3, seed=0, run=run())


@pytest.fixture(scope="module")
def task(demo: OpenModel) -> Task:
    return task_of(demo, objects(10))


def test_stories_are_held_out_whole_and_oracles_differ_in_the_label_alone(task: Task) -> None:
    assert sorted([*task.fitted.tolist(), *task.held.tolist()]) == list(range(60))
    assert {row // 6 for row in task.fitted.tolist()}.isdisjoint(row // 6 for row in task.held.tolist())
    assert len(task.held) == 18
    expected = torch.arange(60)[:, None] // 6 * 6 + torch.arange(6)
    assert torch.equal(task.oracle, expected)
    assert task.model.token_texts(task.answers.tolist()) == list(task.classes)


@pytest.mark.parametrize("hook", [HOOK, "blocks.0.hook_resid_post", "blocks.1.attn.hook_z"])
def test_the_activations_are_those_of_the_prompts_last_token_and_putting_them_back_changes_nothing(
    demo: OpenModel, hook: str
) -> None:
    prompts = objects(10)
    task = task_of(demo, prompts, hook)
    ids = np.array([demo.encode(prompts.rows[7].prompt)])
    [(_, found)] = capture(demo, ids, [hook])
    assert torch.allclose(task.x[7], found[hook][0, -1], atol=1e-5)
    with torch.no_grad():
        clean = demo.bridge(torch.from_numpy(ids), return_type="logits")[0, -1, task.answers]
    items = torch.tensor([7, 20])
    assert torch.allclose(task.rest(task.x[items], items)[0], clean, atol=1e-4)


def test_the_rest_of_the_model_is_that_of_an_edit_and_has_a_gradient(task: Task, demo: OpenModel) -> None:
    items = torch.tensor([3, 40])
    moved = (task.x[items] + 0.5).requires_grad_()
    logits = task.rest(moved, items)
    row = int(items[1])
    ids = task.ids[row : row + 1, : int(task.last[row]) + 1]
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[0, -1] = True
    edit = Edit(HOOK, lambda x: x + 0.5, where)
    assert torch.allclose(logits[1], edited_logits(demo, ids, [edit])[0, -1, task.answers], atol=1e-4)
    (gradient,) = torch.autograd.grad(logits[0, 2], moved)
    assert gradient[0].norm() > 0
    assert gradient[1].norm() == 0  # one prompt's answer does not depend on another's activation
    step = 1e-2 * gradient / gradient.norm()
    rise = float((task.rest(moved + step, items) - task.rest(moved - step, items))[0, 2].detach()) / 2e-2
    assert rise == pytest.approx(float(gradient.norm()), rel=1e-2)


def test_the_oracle_patch_is_right_and_the_model_answers_the_stories(task: Task) -> None:
    assert learned_task.clean_accuracy(task, run()) == 1
    rows, target = learned_task.cases(task, 0)
    assert len(rows) == 18 * 5
    oracle = task.x[task.oracle[rows, target]]
    assert learned_task.steered(oracle, task.x[rows], rows, target, task.rest).success.all()
    assert learned_task.readout(task)[1] == 1


def test_cases_are_drawn_where_there_are_too_many(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_task, "MOST", 7)
    rows, target = learned_task.cases(task, 0)
    assert len(rows) == len(target) == 7
    assert (task.y[rows] != target).all()
    assert torch.equal(rows, learned_task.cases(task, 0)[0])


def test_the_interval_draws_whole_prompts() -> None:
    random = np.random.default_rng(0)
    # Ten prompts of 50 equal cases: the spread is that of ten values, and not of 500.
    right, prompts = np.repeat(np.arange(10) % 2, 50), np.repeat(np.arange(10), 50)
    low, high = learned_task.interval(right, prompts, random)
    assert low == pytest.approx(0.5 - 1.96 * 0.158, abs=0.06)
    assert high == pytest.approx(0.5 + 1.96 * 0.158, abs=0.06)


def row(prompt: str, positive: str, label: str) -> PromptRow:
    return PromptRow(prompt, positive, " x", label=label)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([PromptRow("one monday", " anna", " ben")] * 9, r"0 rows with a label and 0 labels"),
        ([row("one", " monday", "a"), row("one", " friday", "b")], "needs at least 8 rows"),
        ([row("one", " monday", "a"), row("one", " friday", "a"), *[row("one", " friday", "b")] * 8], "two answers"),
        ([row("one", " monday", "a"), *[row("one", " monday", "b")] * 8], "begin with the same token"),
        ([row("one", "", "a"), *[row("one", " monday", "b")] * 8], "no positive completion"),
    ],
)
def test_sets_without_labels_or_answers_are_refused_in_a_sentence(
    demo: OpenModel, rows: list[PromptRow], said: str
) -> None:
    with pytest.raises(SteeringError, match=said):
        task_of(demo, make_set(rows, name="mine", reference="mine"))


def test_a_set_whose_prompts_all_differ_has_no_oracle_and_is_split_by_rows(demo: OpenModel) -> None:
    rows = [
        PromptRow(f"one {day} {name} went to the park . {word} felt", *answers, label=label)
        for day in ("monday", "friday", "tuesday")
        for name, word in (("anna", "she"), ("emma", "she"), ("ben", "he"), ("tom", "he"))
        for label, answers in (("glad", (" happy", " sad")), ("sad", (" sad", " happy")))
    ]  # fmt: skip
    task = task_of(demo, make_set(rows, name="mine", reference="mine"))
    assert (task.oracle == -1).all()
    assert len(task.held) == round(0.3 * 24)


def test_a_factor_that_is_the_label_in_other_words_does_not_keep_oracles_apart(demo: OpenModel) -> None:
    rows = [
        PromptRow(
            f"one {day} {name} went to the", f" {place}", " beach", label=place, factors={"day": day, "name": name}
        )
        for day, place in (("monday", "park"), ("friday", "farm"))
        for name in ("anna", "emma", "nora", "ben", "tom")
    ]
    task = task_of(demo, make_set(rows, name="mine", reference="mine"))
    assert torch.equal(task.oracle, torch.stack([torch.arange(10) % 5, torch.arange(10) % 5 + 5], dim=1))
    assert task.classes == ("park", "farm")


SMALL: dict[str, Any] = {
    "prompts": as_jsonl(objects(10)), "steps": 20, "batch": 8, "hidden": 32, "device": "cpu", "threads": 1,
}  # fmt: skip


def test_a_run_shows_f_beside_its_controls_and_can_be_steered_with(tmp_path: Path) -> None:
    recording = start("learned-steering", tmp_path, **SMALL | {"steps": 120, "batch": 16, "lr": 0.01, "beta": 0.01})
    table = recording.figure("methods")
    assert isinstance(table, Table)
    success = dict(zip(table.columns[0], table.columns[3], strict=True))
    assert success["oracle patch"] == success["difference of the labels' means"] == 1
    assert success["nothing"] == 0
    assert success["random vector of equal norm"] < 0.2 < 0.8 < success["learned f"]
    pairs, training = recording.figure("pairs"), recording.figure("training")
    assert isinstance(pairs, Heatmap)
    assert pairs.text is not None
    assert (pairs.text == "held out").sum() == 3
    assert np.isnan(np.diag(pairs.values)).all()
    assert isinstance(training, Lines)
    assert isinstance(recording.figure("distance"), Histogram)
    assert recording.kept("history").shape == (120, 3)
    shift = load_learned(tmp_path, "learned-steering-1", "hat")
    assert (shift.hook, shift.model) == (HOOK, "demo")
    prompts, model = objects(10), open_model("demo", device="cpu")
    chosen = recording.kept("held-out prompts")
    answers = []
    for number in chosen[:6].tolist():
        ids = torch.tensor([model.encode(prompts.rows[number].prompt)])
        where = torch.zeros_like(ids, dtype=torch.bool)
        where[0, -1] = True
        logits = edited_logits(model, ids, [Edit(shift.hook, lambda x: shift(x, 1.0), where)])
        answers += model.token_texts([int(logits[0, -1].argmax())])
    assert answers.count("hat") >= 5


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed("learned-steering", tmp_path, stop=10, metric="shift_loss", **SMALL)


def test_prompts_that_the_model_does_not_answer_are_said_to_be_so(tmp_path: Path) -> None:
    rows = [
        PromptRow(f"one {day} {name} went to the", f" {place}", " beach", label=place)
        for day, place in (("monday", "park"), ("friday", "farm"))
        for name in ("anna", "emma", "nora", "ben", "tom")
    ]
    text = as_jsonl(make_set(rows, name="mine", reference="mine"))
    recording = start("learned-steering", tmp_path, **SMALL | {"steps": 3, "prompts": text})
    assert recording.record().facts["clean_accuracy"] < 0.9
    assert any("says little" in line["text"] for line in recording.log())
