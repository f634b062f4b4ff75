"""Hook points carry the field's names, true shapes, and a warning where an edit would not do what it seems to."""

from __future__ import annotations

import pytest
import torch

from engine.models.errors import ModelError
from engine.models.hooks import PARTS
from engine.models.opening import OpenModel


def test_each_is_listed_once_in_the_order_of_the_forward_pass(tiny: OpenModel) -> None:
    points = tiny.hook_points()
    names = [point.name for point in points]
    assert len(set(names)) == len(names)
    assert len({point.canonical for point in points}) == len(points)
    wanted = ["hook_embed", "blocks.0.hook_resid_pre", "blocks.0.attn.hook_q", "blocks.0.attn.hook_z"]
    wanted += ["blocks.0.hook_attn_out", "blocks.0.hook_resid_mid", "blocks.0.hook_mlp_out"]
    wanted += ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre", "ln_final.hook_out", "hook_unembed"]
    places = [names.index(name) for name in wanted]
    assert places == sorted(places)
    assert {point.part for point in points} <= set(PARTS)


def test_shapes_in_words_and_widths_are_those_of_the_activations(tiny: OpenModel) -> None:
    shapes = {
        "blocks.1.hook_resid_post": ("(batch, position, d_model)", 32, "residual"),
        "blocks.1.attn.hook_q": ("(batch, position, head, d_head)", 32, "attention"),
        "blocks.1.attn.hook_k": ("(batch, position, key/value head, d_head)", 16, "attention"),
        "blocks.1.attn.hook_pattern": ("(batch, head, position, source position)", 0, "attention"),
        "blocks.1.mlp.hook_post": ("(batch, position, d_mlp)", 48, "MLP"),
        "blocks.1.ln1.hook_scale": ("(batch, position, 1)", 1, "norm"),
        "hook_unembed": ("(batch, position, vocabulary)", tiny.facts.vocabulary, "output"),
    }
    for name, expected in shapes.items():
        point = tiny.hook_point(name)
        assert (point.shape, point.width, point.part) == expected, name


def test_canonical_and_familiar_names_are_the_same_point(tiny: OpenModel) -> None:
    assert tiny.hook_point("blocks.0.hook_out") is tiny.hook_point("blocks.0.hook_resid_post")
    assert tiny.check_hook("blocks.0.hook_out") == 32


def test_editing_resid_mid_does_what_its_note_warns_of(tiny: OpenModel) -> None:
    assert "does not change the residual stream" in tiny.hook_point("blocks.0.hook_resid_mid").note
    ids = torch.tensor([tiny.encode("The fox")])
    canonical = tiny.hook_point("blocks.0.hook_resid_mid").canonical
    with torch.no_grad():
        _, before = tiny.bridge.run_with_cache(ids)
        edited = {}

        def keep(value: torch.Tensor, hook: object) -> None:
            edited["post"] = value.clone()

        hooks = [(canonical, lambda value, hook: value + 100.0), ("blocks.0.hook_out", keep)]
        tiny.bridge.run_with_hooks(ids, fwd_hooks=hooks)
    moved = (edited["post"] - before["blocks.0.hook_out"]).abs().max()
    assert moved < 100.0  # the skip connection never saw the edit


def test_an_unknown_name_gets_the_nearest_ones(tiny: OpenModel) -> None:
    with pytest.raises(
        ModelError, match=r"no hook point blocks\.1\.resid_post; did you mean blocks\.1\.hook_resid_post"
    ):
        tiny.check_hook("blocks.1.resid_post")
    with pytest.raises(ModelError, match="numbered 0 to 1"):
        tiny.check_hook("blocks.2.hook_resid_post")
    with pytest.raises(ModelError, match="the model card lists all"):
        tiny.check_hook("zzz")
