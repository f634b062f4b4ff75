"""Random facts in a ReLU layer: gradients, capacity, the sum of neurons, and the experiments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.errors import ParameterError
from engine.figures import Heatmap, Images, Lines, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text.toys import find as toy_data
from engine.toys.facts.ensemble import (
    Group,
    MemoryTrainer,
    Models,
    bits,
    entropies,
    free_parameters,
    gradients,
    initial,
    parameters,
    score,
    svd_logits,
    svd_rank,
)
from engine.toys.facts.ensemble import Table as Facts
from engine.toys.facts.figures import components_frame, marks, partial_sums
from engine.toys.training import generator
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

NAMES = ("a", "b", "bias", "out", "offset")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("memorisation")
    return folder, quick("memorisation", folder)


def trained(items: int, hidden: int, steps: int, *, facts: int = 0, restarts: int = 1, seed: int = 0) -> MemoryTrainer:
    table = Facts.draw(items, seed)
    group = Group(hidden, (facts or items**2,), restarts)
    trainer = MemoryTrainer(table, [group], steps=steps, lr=2e-2, seed=seed)
    for _ in range(steps):
        trainer.train_step()
    return trainer


def by_hand(models: Models, number: int, i: int, j: int) -> float:
    """The logit of one fact, neuron by neuron."""
    total = float(models.offset[number])
    for k in range(models.out.shape[1]):
        before = models.a[number, k, i] + models.b[number, k, j] + models.bias[number, k]
        total += float(models.out[number, k]) * max(float(before), 0)
    return total


def test_logits_are_those_of_the_sum_over_neurons() -> None:
    models = initial(3, 6, 4, generator(0, 0))
    logits = models.logits()
    for number, i, j in ((0, 0, 0), (1, 5, 2), (2, 3, 5)):
        assert float(logits[number, i, j]) == pytest.approx(by_hand(models, number, i, j), abs=1e-5)
    whole = models.components().sum(dim=1) + models.offset[:, None, None]
    assert torch.allclose(whole, logits, atol=1e-5)
    sums = partial_sums(models[[1]])
    assert len(sums) == 5
    assert torch.allclose(sums[-1], logits[1], atol=1e-5)


def test_gradients_written_by_hand_are_autograd_s() -> None:
    table = Facts.draw(40, 0)  # so large that the models are worked on in several parts
    models = initial(5, 40, 16, generator(0, 0))
    assert len(models.parts()) > 1
    chosen = torch.stack([table.chosen(facts) for facts in (100, 200, 400, 800, 1600)])
    weight = chosen / chosen.sum(dim=(1, 2), keepdim=True)
    tensors = [getattr(models, name).clone().requires_grad_() for name in NAMES]
    a, b, bias, out, offset = tensors
    hidden = torch.relu(a[..., :, None] + b[..., None, :] + bias[..., None, None])
    logits = (hidden * out[..., None, None]).sum(dim=1) + offset[:, None, None]
    nats = F.binary_cross_entropy_with_logits(logits, table.answers.expand_as(logits), reduction="none")
    expected = (nats * weight).sum(dim=(1, 2))
    expected.sum().backward()
    losses, found = gradients(models, table.answers, weight)
    assert torch.allclose(losses, expected, atol=1e-6)
    for name, tensor in zip(NAMES, tensors, strict=True):
        assert torch.allclose(getattr(found, name), tensor.grad, atol=1e-6), name


def test_a_model_in_an_ensemble_trains_as_if_alone() -> None:
    table = Facts.draw(12, 0)
    together = MemoryTrainer(table, [Group(3, (40, 90), 2)], steps=50, lr=2e-2, seed=0)
    alone = MemoryTrainer(table, [Group(3, (90,), 1)], steps=50, lr=2e-2, seed=0)
    with torch.no_grad():
        for name in NAMES:
            getattr(alone.models[0], name).copy_(getattr(together.models[0], name)[3:4])
    for _ in range(50):
        together.train_step()
        alone.train_step()
    for name in NAMES:
        assert torch.allclose(
            getattr(alone.models[0], name)[0], getattr(together.models[0], name)[3], rtol=1e-4, atol=1e-6
        )


def test_parameters_are_counted_and_redundant_directions_change_nothing() -> None:
    models = initial(1, 7, 3, generator(0, 0))
    assert parameters(7, 3) == sum(getattr(models, name).numel() for name in NAMES)
    assert free_parameters(7, 3) == parameters(7, 3) - 9
    shifted = Models(models.a + 0.7, models.b - 0.2, models.bias - 0.5, models.out, models.offset)
    scaled = Models(models.a * 3, models.b * 3, models.bias * 3, models.out / 3, models.offset)
    for other in (shifted, scaled):
        assert torch.allclose(other.logits(), models.logits(), atol=1e-5)


def test_bits_are_one_a_fact_when_all_is_known_and_none_at_chance() -> None:
    assert float(bits(100, torch.tensor(0.0))) == 100
    assert float(bits(100, torch.tensor(math.log(2)))) == pytest.approx(0)
    table = Facts.draw(8, 0)
    chosen = table.chosen(20)
    assert chosen.sum() == 20
    nats, right = score(torch.zeros(1, 8, 8), table.answers, chosen)
    assert float(nats) == pytest.approx(math.log(2))
    assert float(right) == pytest.approx(1 - float(table.answers[chosen > 0].mean()))
    sure = (2 * table.answers - 1)[None] * 100
    assert score(sure, table.answers, chosen)[1].item() == 1


def test_more_facts_are_the_same_facts_and_some_more() -> None:
    table = Facts.draw(10, 3)
    assert (table.chosen(30) <= table.chosen(31)).all()
    assert table.chosen(100).all()
    assert sorted(table.order.tolist()) == list(range(100))


@pytest.mark.parametrize("budget", [1, 63, 64, 500, 529, 1023, 1024, 5000])
def test_the_svd_has_the_largest_rank_that_the_budget_pays(budget: int) -> None:
    rank = svd_rank(32, budget)
    cost = lambda r: 2 * 32 * r - r * r  # noqa: E731
    assert cost(rank) <= budget
    assert rank == 32 or cost(rank + 1) > budget


def test_the_svd_control_is_the_best_approximation_and_whole_at_full_rank() -> None:
    table = Facts.draw(16, 0)
    chosen = table.chosen(256)
    assert float(score(svd_logits(table, chosen, 16)[None], table.answers, chosen)[1]) == 1
    found = svd_logits(table, chosen, 3).numpy()
    assert np.linalg.matrix_rank(found) == 3
    target = 2 * table.answers.numpy() - 1
    error = np.linalg.norm(target - found * (target * found).sum() / (found**2).sum())
    expected = np.sqrt((np.linalg.svd(target, compute_uv=False)[3:] ** 2).sum())
    assert error == pytest.approx(expected, rel=1e-4)


def test_at_one_and_a_third_facts_a_parameter_all_are_remembered() -> None:
    trainer = trained(32, 12, 1500, restarts=4)
    nats, right = trainer.measure(0)
    assert float(right.max()) == 1
    assert float(bits(1024, nats.min())) / parameters(32, 12) == pytest.approx(1024 / 793, abs=0.02)


def test_at_two_facts_a_parameter_models_are_full() -> None:
    nats, right = trained(32, 8, 1500, restarts=2).measure(0)
    per = float(bits(1024, nats.min())) / parameters(32, 8)
    assert 1.3 < per < 1.9
    assert 0.9 < float(right.max()) < 1


def test_pictures_of_neurons_are_staircases() -> None:
    model = initial(1, 20, 5, generator(0, 0))
    frame = components_frame(model, 400)
    for picture in frame.pixels:
        size = np.abs(picture)  # of a ReLU of an outer sum, rows and columns sorted: it only grows
        assert (np.diff(size, axis=0) >= -1e-6).all()
        assert (np.diff(size, axis=1) >= -1e-6).all()
    assert np.abs(frame.pixels).max() == pytest.approx(1)


def test_upright_marks_go_up_at_each_place() -> None:
    x, y = marks([5, 2], 0.0, 1.0)
    assert x.tolist() == [2, 2, 2, 5, 5, 5]
    assert y.tolist() == [0, 1, 0, 0, 1, 0]


def test_a_quick_run_shows_model_and_controls(recording: Any) -> None:
    _, run = recording
    table = run.figure("stored")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    rows = {name: number for number, name in enumerate(columns["Model or control"])}
    right = columns["Facts right"]
    best = right[rows["best restart"]]
    assert best > 0.8
    assert best == pytest.approx(run.metric("accuracy")[-1, 1], abs=0.02)
    assert right[rows["untrained"]] < 0.62
    assert abs(right[rows["best restart, asked for another table"]] - 0.5) < 0.12
    svd = next(name for name in rows if "SVD" in name)
    assert 0.7 < right[rows[svd]] < 1
    assert columns["Bits / parameter"][rows["best restart"]] == pytest.approx(
        run.metric("bits_per_parameter")[-1, 1], abs=1e-6
    )
    assert run.movie_names() == ["facts", "facts-right", "neurons"]
    lines = run.figure("facts-right")
    assert isinstance(lines, Lines)
    assert lines.y[0][np.isfinite(lines.y[0])][-1] == best
    assert lines.x[0][:6].tolist() == [parameters(16, k) for k in range(6)]


def test_the_movies_are_of_the_model_that_ends_best(recording: Any) -> None:
    folder, run = recording
    frames = list(run.movie("facts").frames())
    assert isinstance(frames[-1], Heatmap)
    model = opened("memorisation", folder)
    logits = model.bridge(torch.arange(256)[None])[0, :, 0].reshape(16, 16).numpy()
    answers = run.kept("answers")
    assert frames[-1].values == pytest.approx(logits * (2.0 * answers - 1), abs=1e-4)
    assert len(frames) == len(run.metric("accuracy"))
    neurons = run.figure("neurons")
    assert isinstance(neurons, Images)
    assert neurons.pixels.shape == (5, 16, 16)


def test_the_toy_in_the_session_answers_for_each_pair(recording: Any) -> None:
    folder, run = recording
    model = opened("memorisation", folder)
    _, data = toy_data("memorisation-1", folder)
    logits, cache = model.bridge.run_with_cache(torch.tensor(data.tokens))
    assert data.features is not None
    truth = data.features[..., -1] > 0
    assert np.array_equal(truth, run.kept("answers") > 0)
    right = ((logits[..., 0].numpy() > 0) == truth).mean()
    assert right == pytest.approx(run.figure("stored").columns[4][0])
    _, _, attributes, arrays = next(thing for thing in run.things() if thing[0] == "models")
    planted = arrays["planted.blocks.0.hook_hidden_pre"]
    assert len(attributes["planted"]["blocks.0.hook_hidden_pre"]) == 32
    bias = model.bridge.network.weights["bias"]
    assert cache["blocks.0.hook_hidden_pre"][3, 5].numpy() == pytest.approx(
        planted[3] + planted[16 + 5] + bias, abs=1e-5
    )
    assert "{i3 j5}" in model.bridge.tokenizer.decode([3 * 16 + 5])


def test_fewer_facts_than_cells_are_marked_in_the_data(tmp_path: Path) -> None:
    run = quick("memorisation", tmp_path, facts=100, steps=5)
    _, data = toy_data("memorisation-1", tmp_path)
    assert data.counted is not None
    assert data.counted.sum() == 100
    order = run.kept("order")
    assert data.counted.ravel()[order[:100]].all()


@pytest.mark.parametrize("stop", [1, 23])
def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    stopped_and_resumed("memorisation", tmp_path, stop=stop, size="quick", items=8, steps=40)


def test_a_scaling_run_shows_each_width_with_its_marks(tmp_path: Path) -> None:
    run = quick("memorisation-scaling", tmp_path)
    lines = run.figure("scaling")
    assert isinstance(lines, Lines)
    assert lines.series == ("h = 2", "h = 4", "F = N of each curve", "F = 2N of each curve")
    counts = [parameters(16, 2), parameters(16, 4)]
    assert lines.x[2][::3][:2].tolist() == counts
    assert lines.x[3][::3][:2].tolist() == [2 * count for count in counts]
    assert lines.reference == {"chance": 1.0}
    table = run.figure("points")
    assert isinstance(table, Table)
    assert (table.columns[5] <= table.columns[4] + 1e-6).all()  # no more bits than facts
    assert (table.columns[5] >= table.columns[6] - 1e-9).all()
    low, high = run.record().facts["slope_interval"]
    assert low <= run.record().facts["slope"] <= high
    assert run.movie_names() == ["bits-per-parameter", "scaling"]


def test_a_scaling_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    stopped_and_resumed("memorisation-scaling", tmp_path, stop=17, size="quick", steps=30)


@pytest.mark.slow
def test_capacity_peaks_at_two_facts_a_parameter(tmp_path: Path) -> None:
    run = start("memorisation-scaling", tmp_path, size="demo", hidden=[10])
    table = run.figure("points")
    assert isinstance(table, Table)
    load, per, right = table.columns[4], table.columns[5], table.columns[8]
    assert 1.5 < per.max() < 2.05
    assert 1.7 <= load[per.argmax()] <= 2.3
    assert right[load < 1.2].min() == 1
    assert right[load < 1.35].min() > 0.998


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("memorisation", {"items": 4, "facts": 17}, "facts=17 are more than the table of items=4 has cells"),
        ("memorisation", {"hidden": 0}, "hidden=0"),
        ("memorisation", {"items": 256, "hidden": 1000}, "hidden=1000 is too large"),
        ("memorisation", {"size": "huge"}, "size="),
        ("memorisation-scaling", {"hidden": [0]}, "hidden=0 neurons"),
        ("memorisation-scaling", {"items": 8, "hidden": [50]}, "fewer than two of the loads"),
        ("memorisation-scaling", {"loads": [-1, 2]}, "loads.0=-1"),
        ("memorisation", {"items": 256, "hidden": 200, "restarts": 64}, "choose at most 30 restarts"),
        ("memorisation-quantisation", {"items": 128, "hidden": [1024], "restarts": 16}, "activations a step"),
        ("memorisation-scaling", {"hidden": [4, 4]}, "names a width twice"),
        ("memorisation-quantisation", {"hidden": [0]}, "hidden=0 neurons"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(name: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find(name).parameters, values)
    assert said in str(problem.value)


def test_entropies_of_several_models_are_those_of_each() -> None:
    table = Facts.draw(6, 0)
    models = initial(4, 6, 2, generator(0, 0))
    nats, right = entropies(models, table.answers, table.chosen(20))
    for number in range(4):
        one = entropies(models[[number]], table.answers, table.chosen(20))
        assert (float(one[0]), float(one[1])) == pytest.approx((float(nats[number]), float(right[number])))
