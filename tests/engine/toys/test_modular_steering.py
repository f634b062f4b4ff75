"""Steering modular addition: what is exact on weights written by hand, and the experiment from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Lines, Scatter, Table
from engine.models.editing import Edit, edited_logits
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.steering.learned import load_learned
from engine.toys import fourier
from engine.toys.modular import analysis, steering
from engine.toys.modular.clock import circles, clock
from engine.toys.modular.network import (
    Shape,
    before_mlp,
    from_middle,
    from_native,
    initial,
    native,
    over_pairs,
    sums,
    unpack,
)
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

P, KEYS = 13, (1, 5)


@pytest.fixture(scope="module")
def bed() -> steering.Bed:
    return steering.bed(*clock(P, KEYS), seed=0)


def outcomes(bed: steering.Bed, delta: int) -> dict[tuple[str, str], steering.Outcome]:
    return {(one.method, one.site): one for one in steering.exact_methods(bed, delta, 0)}


@pytest.mark.parametrize(("p", "keys"), [(13, (1, 5)), (53, (3, 7, 19)), (12, (1, 5)), (5, (1,))])
def test_the_clock_written_by_hand_adds_every_pair(p: int, keys: tuple[int, ...]) -> None:
    shape, theta = clock(p, keys)
    with torch.no_grad():
        logits = over_pairs(shape, theta[None]).logits[0]
    assert torch.equal(logits.argmax(1), sums(p))
    assert fourier.shares(analysis.embedding(shape, theta))[[k - 1 for k in keys]].sum() == pytest.approx(1, abs=1e-9)
    assert analysis.explained(logits, list(keys))["clock"] > 0.995
    assert analysis.distance_irrelevance(analysis.correct_logits(logits)) > 0.9


@pytest.mark.parametrize("keys", [(), (0,), (7,), (2, 2)])
def test_frequencies_without_a_circle_are_refused(keys: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frequencies between 1 and 6"):
        clock(13, keys)


@pytest.mark.parametrize("uniform", [0.0, 0.3, 1.0])
def test_a_native_model_gives_its_network_back(uniform: float) -> None:
    shape = Shape(11, 8, 2, 12, uniform)
    theta = initial(shape, 3)
    found, weights = from_native(native(shape, theta))
    assert found.uniform == pytest.approx(uniform, abs=1e-6)
    with torch.no_grad():
        assert torch.allclose(over_pairs(found, weights[None]).logits, over_pairs(shape, theta[None]).logits, atol=1e-5)


def test_the_pass_in_two_parts_is_the_whole_pass() -> None:
    shape = Shape(11, 8, 2, 12)
    theta = initial(shape, 3)[None]
    embed = unpack(shape, theta)["embed"][0, :11]
    with torch.no_grad():
        whole = over_pairs(shape, theta)
        middle = before_mlp(shape, theta, embed[torch.cartesian_prod(torch.arange(11), torch.arange(11))])
        found = from_middle(shape, theta, middle)
    assert torch.allclose(middle, whole.middle[0], atol=1e-5)
    assert torch.allclose(found.logits, whole.logits, atol=1e-5)
    assert torch.allclose(found.final, whole.final, atol=1e-5)


@pytest.mark.parametrize("p", [13, 12])
def test_rotating_by_p_or_there_and_back_changes_nothing(p: int) -> None:
    table = torch.randn(p, 7, generator=torch.Generator().manual_seed(0))
    keys = [1, 4, 6]
    assert torch.allclose(steering.rotated(table, keys, p), table, atol=1e-5)
    assert torch.allclose(steering.rotated(steering.rotated(table, keys, 3), keys, -3), table, atol=1e-5)
    assert not torch.allclose(steering.rotated(table, keys, 3), table, atol=0.1)


def test_a_rotation_is_the_turn_of_circles_and_leaves_the_rest() -> None:
    flat = circles(P, KEYS)
    other = torch.randn(P, 4, generator=torch.Generator().manual_seed(0)).double()
    # Without the key frequencies the other columns have nothing to turn.
    basis = torch.from_numpy(np.concatenate([fourier.basis(P, k) for k in KEYS], axis=1))
    other -= basis @ (basis.T @ other)
    found = steering.rotated(torch.cat([flat, other], dim=1), KEYS, 4)
    for number, k in enumerate(KEYS):
        angle = 2 * np.pi * k * 4 / P
        turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        pair = slice(2 * number, 2 * number + 2)
        assert torch.allclose(found[:, pair], flat[:, pair] @ turn.T, atol=1e-9)
    assert torch.allclose(found[:, 4:], other, atol=1e-9)


@pytest.mark.parametrize("delta", range(1, P))
def test_on_the_clock_rotation_and_oracle_are_right_for_every_pair(bed: steering.Bed, delta: int) -> None:
    found = outcomes(bed, delta)
    for where in (("rotation of a's embedding", "embedding"), ("oracle patch", "mid"), ("class-pair means", "post")):
        assert found[where].success == 1, where
    rotation = found["rotation of a's embedding", "embedding"]
    assert rotation.side.max() < 1e-5
    assert rotation.cosine.min() > 1 - 1e-6
    assert rotation.distance.max() < 1e-4
    vanishing = found["one global vector", "post"]
    assert vanishing.success == 0
    assert vanishing.step.max() < 1e-5
    for method, site in (("random vector, equal norm", "embedding"), ("class-pair means", "mid")):
        assert found[method, site].success < 0.35


def test_class_means_vanish_at_mid_and_not_at_post(bed: steering.Bed) -> None:
    mid, post = (steering.class_means(bed.x[site], bed.y, P) for site in (steering.MID, steering.POST))
    assert (mid - mid.mean(0)).norm() < 1e-5
    assert (post - post.mean(0)).norm() > 1


@pytest.mark.parametrize("delta", [1, 7, 52])
def test_one_global_vector_is_zero_for_any_means(delta: int) -> None:
    means = 10 * torch.randn(53, 48, generator=torch.Generator().manual_seed(0))
    assert steering.global_vector(means, delta).norm() < 1e-5


def test_the_halves_share_no_pair_in_either_order() -> None:
    fitted, held = steering.halves(23, 0)
    assert sorted([*fitted.tolist(), *held.tolist()]) == list(range(23 * 23))
    turned = {row % 23 * 23 + row // 23 for row in fitted.tolist()}
    assert turned == set(fitted.tolist())
    assert 0.4 < len(held) / 529 < 0.6


def test_the_side_effect_is_the_divergence_over_the_other_answers() -> None:
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    oracle = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([0, 1, 2, 3, 5])
    found = steering.side_effect(logits, oracle, target)
    for row, off in enumerate(target.tolist()):
        rest = [answer for answer in range(6) if answer != off]
        p, q = (values[row, rest].double().softmax(0).numpy() for values in (oracle, logits))
        assert found[row] == pytest.approx(float((p * np.log(p / q)).sum()))
    changed = logits.clone()
    changed[torch.arange(5), target] += 9
    assert steering.side_effect(changed, oracle, target) == pytest.approx(found)


def test_a_quick_run_has_every_method_with_its_floor_and_can_be_steered_with(tmp_path: Path) -> None:
    recording = quick("modular-steering", tmp_path, steps=60)
    table = recording.figure("methods")
    assert isinstance(table, Table)
    methods, sites, deltas, n, success = table.columns[:5]
    assert set(deltas) == {"1", "7"}  # 20 is 7 modulo 13
    assert set(n) == {len(recording.kept("held out"))}
    right = {(m, s, d): float(value) for m, s, d, value in zip(methods, sites, deltas, success, strict=True)}
    assert right["rotation of a's embedding", "embedding", "7"] == 1
    assert right["one global vector", "post", "1"] == 0
    assert sum("floor" in note for note in table.columns[-1]) == 2 * 7
    learned = recording.figure("learned")
    assert isinstance(learned, Table)
    assert learned.columns[0].tolist() == [0.0] * 3 + [0.1] * 3
    rotation = recording.figure("rotation")
    assert isinstance(rotation, Lines)
    assert rotation.equal
    assert len(rotation.series) == 4
    assert isinstance(recording.figure("distance"), Scatter)
    assert recording.kept("f history").shape == (2, 60, 3)
    assert np.isfinite(recording.kept("f history")).all()
    assert recording.metric("shift_success")[-1, 0] == 120

    # The kept f does in the native model, at its hook point, what was measured in the bare network.
    model = opened("modular-steering", tmp_path)
    shift = load_learned(tmp_path, "modular-steering-1")
    ids = torch.tensor([[2, 9, P], [4, 4, P]])
    where = torch.tensor([[False, False, True]] * 2)
    logits = edited_logits(model, ids, [Edit(shift.hook, lambda x: shift(x, 1.0), where)])[:, 2, :P]
    rows = ids[:, 0] * P + ids[:, 1]
    bed = steering.bed(*clock(P, KEYS), seed=0)
    bare = shift(torch.nn.functional.pad(bed.x[steering.MID][rows], (0, 1), value=1.0), 1.0)
    assert torch.allclose(logits, bed.rest(bare[:, :-1], rows).detach(), atol=1e-3)


SMALL: dict[str, Any] = {"size": "quick", "steps": 20, "betas": [0.0, 1.0], "deltas": [2]}
TRAINED = SMALL | {"hand_built": False, "p": 7, "network_steps": 30}


@pytest.mark.parametrize("stop", [8, 31])
def test_a_run_stopped_while_f_trains_goes_on_bit_for_bit(tmp_path: Path, stop: int) -> None:
    stopped_and_resumed("modular-steering", tmp_path, stop=stop, metric="shift_loss", **SMALL)


def test_a_run_stopped_while_the_network_trains_goes_on_bit_for_bit(tmp_path: Path) -> None:
    stopped_and_resumed("modular-steering", tmp_path, stop=13, metric="loss", **TRAINED)


def test_a_network_of_the_session_is_steered_and_not_made_again(tmp_path: Path) -> None:
    start("modular-addition", tmp_path, size="quick", steps=30, p=7)
    recording = start("modular-steering", tmp_path, **SMALL, model="toy:modular-addition-1")
    assert list(recording.things()) == []
    assert load_learned(tmp_path, "modular-steering-1").model == "toy:modular-addition-1"
    assert any("has not grokked" in line["text"] for line in recording.log())


def test_shifts_that_change_no_answer_are_refused_in_a_sentence(tmp_path: Path) -> None:
    recording = start("modular-steering", tmp_path, **SMALL | {"deltas": [7, 14], "p": 7}, state="failed")
    assert "no multiple of 7" in recording.record().error


def test_a_model_that_adds_nothing_is_refused_in_a_sentence(tmp_path: Path) -> None:
    start("max-of-k", tmp_path, size="quick", steps=2)
    recording = start("modular-steering", tmp_path, **SMALL, model="toy:max-of-k-1", state="failed")
    assert recording.record().error.startswith("toy:max-of-k-1 does not add modulo p")


@pytest.mark.parametrize(
    ("values", "said"),
    [({"model": "smollm2"}, "does not add modulo p"), ({"model": "toy:a-1", "p": 7}, "leave model empty")],
)
def test_values_that_make_no_sense_are_refused_in_a_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        check(find("modular-steering").parameters, values)


@pytest.mark.slow
def test_at_demo_size_the_table_of_the_specification_holds(tmp_path: Path) -> None:
    recording = start("modular-steering", tmp_path)
    table = recording.figure("methods")
    assert isinstance(table, Table)
    right = {tuple(row[:3]): float(row[4]) for row in zip(*table.columns, strict=True)}
    for delta in ("1", "7", "20"):
        for where in (
            ("rotation of a's embedding", "embedding"),
            ("oracle patch", "mid"),
            ("class-pair means", "post"),
        ):
            assert right[*where, delta] == 1, (where, delta)
        assert right["one global vector", "post", delta] == 0
        assert right["class-pair means", "mid", delta] < 0.15
        assert 0.1 < right["least-squares affine map", "mid", delta] <= 1
    learned = recording.figure("learned")
    assert isinstance(learned, Table)
    beta, targets, _, success = learned.columns[:4]
    free = {name: value for price, name, value in zip(beta, targets, success, strict=True) if price == 0}
    assert free["any y'"] > 0.995
    assert free["pairs (y, y') held out"] > 0.98
    distance = learned.columns[8]
    assert distance[0] > 2.5  # far from real activations without a price …
    assert distance[beta == 0.1].max() < 1.5  # … and among them with one
    assert recording.record().facts["f_cpu_seconds_each"] < 20
