"""Interventions against what they are defined to do, by hand and through a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.models.editing import Edit, edited_logits
from engine.steering import interventions
from engine.steering.errors import SteeringError
from engine.steering.interventions import (
    Ablation,
    AddVector,
    AffineMap,
    Intervention,
    LatentAdd,
    LatentClamp,
    Rotation,
    RotationTo,
)
from engine.steering.latents import check_latent
from engine.steering.rows import encode_rows

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

WIDTH, LATENTS, P = 12, 20, 7
HOOK = "blocks.0.hook_resid_post"


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotation(frequencies: tuple[int, ...] = (1, 3), p: int = P) -> Rotation:
    basis = torch.linalg.qr(normal(WIDTH, 2 * len(frequencies), seed=1))[0].T
    angles = 2 * torch.pi * torch.tensor(frequencies, dtype=torch.float64) / p
    return Rotation(basis.reshape(-1, 2, WIDTH), angles, normal(WIDTH, seed=2))


def dictionary(normalise: str = "none", activation: str = "topk", hook_in: str = HOOK) -> Dictionary:
    config = DictionaryConfig(
        activation, WIDTH, WIDTH, LATENTS, 5, True, activation, hook_in, HOOK, "", normalise=normalise
    )
    return Dictionary(
        config, normal(WIDTH, LATENTS, seed=3), normal(LATENTS, WIDTH, seed=4), normal(LATENTS, seed=5) / 5,
        normal(WIDTH, seed=6),
    )  # fmt: skip


def at_rest() -> dict[str, Intervention]:
    turning = rotation()
    return {
        "add": AddVector(normal(WIDTH)),
        "affine": AffineMap(normal(WIDTH, WIDTH), normal(WIDTH), normal(WIDTH, seed=9)),
        "rotation": turning,
        "rotation to a class": RotationTo(turning, normal(P, WIDTH), 3, True),
        "latent": LatentAdd(dictionary(), 3, 2.0),
        "ablation": Ablation(normal(WIDTH), normal(WIDTH, seed=8)),
    }


@pytest.mark.parametrize("name", at_rest())
def test_strength_nought_changes_nothing(name: str) -> None:
    x = normal(50, WIDTH, seed=10) * 5
    torch.testing.assert_close(at_rest()[name](x, 0.0), x, atol=1e-6, rtol=0)
    assert interventions.idle(at_rest()[name], 0.0)
    assert not interventions.idle(at_rest()[name], 0.1)


def test_strength_one_is_the_whole_affine_map_and_two_goes_as_far_again() -> None:
    x, weight, bias, centre = (
        normal(9, WIDTH),
        normal(WIDTH, WIDTH, seed=1),
        normal(WIDTH, seed=2),
        normal(WIDTH, seed=3),
    )
    mapped = torch.stack([weight @ (row - centre) + bias for row in x])
    torch.testing.assert_close(AffineMap(weight, bias, centre)(x, 1.0), mapped)
    torch.testing.assert_close(AffineMap(weight, bias, centre)(x, 2.0), 2 * mapped - x)
    torch.testing.assert_close(AffineMap(weight, bias)(x, 1.0), x @ weight.T + bias)


@pytest.mark.parametrize("steps", [P, -P, 10 * P, 10**6 * P])
def test_a_whole_round_gives_x_again(steps: int) -> None:
    x = normal(40, WIDTH, seed=10) * 3
    torch.testing.assert_close(rotation()(x, float(steps)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1.0, 2.5, 100.0])
def test_turning_forth_and_back_gives_x_again(steps: float) -> None:
    x, turn = normal(40, WIDTH, seed=10) * 3, rotation()
    torch.testing.assert_close(turn(turn(x, steps), -steps), x, atol=1e-5, rtol=0)
    assert (turn(x, steps) - x).norm() > 1


def test_what_lies_outside_the_planes_is_not_touched() -> None:
    turn, x = rotation(), normal(40, WIDTH, seed=10)
    spanned = turn.planes.flatten(0, 1)
    outside = torch.eye(WIDTH) - spanned.T @ spanned
    torch.testing.assert_close(turn(x, 1.7) @ outside, x @ outside, atol=1e-5, rtol=0)
    torch.testing.assert_close((turn(x, 1.7) - turn.centre).norm(dim=1), (x - turn.centre).norm(dim=1))


def test_a_point_on_a_circle_moves_on_by_its_steps() -> None:
    turn = rotation((2,))

    def number(a: float) -> Tensor:
        angle = torch.tensor(2 * torch.pi * 2 * a / P)
        return turn.centre + 3 * (angle.cos() * turn.planes[0, 0] + angle.sin() * turn.planes[0, 1])

    for steps in (1.0, 3.0, 0.5, -2.0):
        torch.testing.assert_close(turn(number(2)[None], steps)[0], number(2 + steps), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("cyclic", "ways"), [(True, [2, 1, 0, -1, -2, -3, 3]), (False, [2, 1, 0, -1, -2, -3, -4])])
def test_to_a_class_each_row_goes_its_own_way(cyclic: bool, ways: list[int]) -> None:
    turn = rotation((1,))
    angles = 2 * torch.pi * torch.arange(P) / P
    circle = turn.centre + torch.stack([angles.cos(), angles.sin()], 1) @ turn.planes[0]
    towards = RotationTo(turn, circle, 2, cyclic)
    assert towards.steps(circle).tolist() == ways
    torch.testing.assert_close(towards(circle, 1.0), circle[2].expand(P, -1), atol=1e-5, rtol=0)


def test_mean_ablation_leaves_every_projection_at_the_mean() -> None:
    x, direction, mean = normal(30, WIDTH), 7 * normal(WIDTH, seed=1), normal(WIDTH, seed=2)
    unit = direction / direction.norm()
    after = Ablation(direction, mean)(x, 1.0)
    torch.testing.assert_close(after @ unit, (mean @ unit).expand(30), atol=1e-5, rtol=0)
    torch.testing.assert_close(after - (after @ unit)[:, None] * unit, x - (x @ unit)[:, None] * unit)


@pytest.mark.parametrize("normalise", ["none", "layer_norm", "constant_norm"])
def test_a_latent_is_moved_and_the_error_of_the_dictionary_stays(normalise: str) -> None:
    held, x, latent = dictionary(normalise), normal(60, WIDTH, seed=10) * 2 + 1, 3
    code = held.encode(x)
    before = code.dense()
    error = x - held.decode(code, x)
    for steered, wanted in (
        (LatentClamp(held, latent, 4.0)(x, 0.5), torch.full((60,), 2.0)),
        (LatentAdd(held, latent, 4.0)(x, 0.5), before[:, latent] + 2.0),
    ):
        after = before.clone()
        after[:, latent] = wanted
        # The reconstruction by hand, in the units of each activation.
        scale = held._normalised(x)[1]
        expected = scale(after @ held.W_dec + held.b_dec)
        torch.testing.assert_close(steered - error, expected, atol=1e-4, rtol=1e-4)
    assert len(set((before[:, latent] > 0).tolist())) == 2  # both kinds of activation were seen


def test_clamping_to_nought_changes_only_where_the_latent_was_active() -> None:
    held, x = dictionary(), normal(60, WIDTH, seed=10)
    active = held.encode(x).dense()[:, 3] > 0
    clamped = LatentClamp(held, 3, 4.0)
    assert not interventions.idle(clamped, 0.0)
    moved = (clamped(x, 0.0) - x).norm(dim=1) > 0
    assert torch.equal(moved, active)
    assert active.any()


def test_latents_that_cannot_be_steered_are_refused() -> None:
    with pytest.raises(SteeringError, match="latents 0 to 19, but not 20"):
        check_latent(dictionary(), 20, HOOK, clamped=False)
    with pytest.raises(SteeringError, match=r"writes blocks\.0\.hook_resid_post, but blocks\.1"):
        check_latent(dictionary(), 0, "blocks.1.hook_resid_post", clamped=False)
    with pytest.raises(SteeringError, match="cannot be clamped"):
        check_latent(dictionary(hook_in="blocks.0.hook_resid_pre"), 0, HOOK, clamped=True)
    check_latent(dictionary(hook_in="blocks.0.hook_resid_pre"), 0, HOOK, clamped=False)
    with pytest.raises(SteeringError, match="no threshold"):
        check_latent(dictionary(activation="batchtopk"), 0, HOOK, clamped=True)


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", "blocks.1.hook_resid_mid", "blocks.1.mlp.hook_out"])
def test_adding_a_vector_at_a_hook_is_adding_it_in_transformer_lens(tiny: OpenModel, hook: str) -> None:
    rows = encode_rows(tiny, ["The dog", "A man a plan"], [" is", " canal"], prepend_bos=True)
    where = rows.where("answer", bos=tiny.bos)
    vector = normal(tiny.check_hook(hook), seed=3) * 3
    steer = AddVector(vector)
    found = edited_logits(tiny, rows.ids, [Edit(hook, lambda x: steer(x, 0.7), where)])
    # What is added to the residual stream between attention and MLP is added to what the attention writes.
    place = hook.replace("hook_resid_mid", "hook_attn_out")

    def by_hand(value: Tensor, hook: object = None) -> Tensor:
        return value + 0.7 * where[:, :, None] * vector

    with torch.no_grad():
        expected = tiny.bridge.run_with_hooks(rows.ids, return_type="logits", fwd_hooks=[(place, by_hand)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - edited_logits(tiny, rows.ids, [])).abs().max() > 0.1
