"""Edits do the same to the model without TransformerLens' wrappers as to TransformerLens' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.models import editing
from engine.models.editing import Edit, edited_logits, is_plain
from engine.models.errors import ModelError
from engine.models.opening import OpenModel, open_model

HOOKS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_z")


@pytest.fixture(scope="module")
def demo() -> OpenModel:
    """The native model that ships."""
    return open_model("demo", device="cpu")


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2: Path) -> OpenModel:
    """LayerNorm, learned positions, another class of blocks."""
    return open_model(str(tiny_gpt2), device="cpu")


def some_ids(model: OpenModel, rows: int = 2, length: int = 9) -> torch.Tensor:
    """Random tokens (rows, length)."""
    return torch.randint(3, model.facts.vocabulary, (rows, length), generator=torch.Generator().manual_seed(1))


def an_edit(model: OpenModel, hook: str, where: torch.Tensor | None = None) -> Edit:
    """Adds a fixed direction as long as a typical activation, and bends what was there."""
    direction = torch.randn(model.check_hook(hook), generator=torch.Generator().manual_seed(2))
    return Edit(hook, lambda x: torch.tanh(x) + direction, where)


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal up to the rounding of another order of summation."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def both_ways(model: OpenModel, ids: torch.Tensor, edits: list[Edit]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits without wrappers and TransformerLens' own."""
    plain = editing.plain_logits(model, ids, edits)
    assert plain is not None
    return plain, editing._bridge_logits(model, ids, edits)


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("which", ["tiny", "gpt2", "demo"])
def test_plain_edits_equal_those_of_transformer_lens(which: str, name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    hook, ids = f"blocks.1.{name}", some_ids(model)
    assert is_plain(model, [hook])
    clean = edited_logits(model, ids, [])
    where = torch.zeros(ids.shape, dtype=torch.bool)
    where[0, 3:5] = True
    for mask in (None, where):
        plain, bridge = both_ways(model, ids, [an_edit(model, hook, mask)])
        assert alike(plain, bridge)
        assert not alike(plain, clean)
    assert torch.equal(plain[0, :3], clean[0, :3])  # no position sees a later one
    assert torch.equal(plain[1], clean[1])  # nor another row


def test_several_edits_are_made_in_their_order(tiny: OpenModel) -> None:
    ids, hook = some_ids(tiny), "blocks.0.hook_resid_mid"
    edits = [Edit(hook, lambda x: x + 1.0), Edit("blocks.1.hook_resid_pre", lambda x: 2 * x), Edit(hook, torch.tanh)]
    plain, bridge = both_ways(tiny, ids, edits)
    assert alike(plain, bridge)
    assert not alike(plain, both_ways(tiny, ids, edits[::-1])[0])


def test_without_edits_the_logits_are_the_models_own(tiny: OpenModel) -> None:
    ids = some_ids(tiny)
    with torch.no_grad():
        assert alike(edited_logits(tiny, ids, []), tiny.bridge(ids))


def test_a_hook_point_that_is_no_parts_output_is_edited_through_transformer_lens(tiny: OpenModel) -> None:
    hook, ids = "blocks.1.ln1.hook_normalized", some_ids(tiny)
    assert not is_plain(tiny, [hook])
    edit = an_edit(tiny, hook)
    assert torch.equal(edited_logits(tiny, ids, [edit]), editing._bridge_logits(tiny, ids, [edit]).float())


def test_a_hook_point_whose_plain_edit_does_something_else_is_not_served(
    tiny_hf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(str(tiny_hf), device="cpu", dtype="float32")
    plain = model.plain
    assert plain is not None
    monkeypatch.setattr(plain, "_verified", {})
    parts = plain._parts | {"blocks.1.mlp": plain._parts["blocks.0.mlp"]}
    monkeypatch.setattr(plain, "_parts", parts)
    assert not is_plain(model, ["blocks.1.hook_mlp_out"])
    assert is_plain(model, ["blocks.1.hook_attn_out"])


def test_an_edit_that_fails_leaves_no_hook_behind(tiny: OpenModel) -> None:
    ids = some_ids(tiny)
    clean = edited_logits(tiny, ids, [])

    def broken(x: torch.Tensor) -> torch.Tensor:
        if is_broken:
            raise ZeroDivisionError
        return x + 1.0

    is_broken = False
    hook = "blocks.1.hook_resid_mid"
    edited_logits(tiny, ids, [Edit(hook, broken)])
    is_broken = True
    with pytest.raises(ZeroDivisionError):
        edited_logits(tiny, ids, [Edit("blocks.0.hook_resid_post", lambda x: x + 1.0), Edit(hook, broken)])
    assert torch.equal(edited_logits(tiny, ids, []), clean)


def test_a_context_that_is_too_long_is_refused_in_a_sentence(tiny: OpenModel) -> None:
    with pytest.raises(ModelError, match=r"65 tokens.*at most 64"):
        edited_logits(tiny, some_ids(tiny, 1, 65), [])


@pytest.mark.parametrize("name", ["hook_resid_post", "hook_resid_mid"])
def test_edits_in_the_middle_of_smollm2_are_the_same_both_ways(smollm2: OpenModel, name: str) -> None:
    hook = f"blocks.15.{name}"
    ids = torch.tensor([smollm2.encode("Anna was happy because she")])
    assert is_plain(smollm2, [hook])
    plain, bridge = both_ways(smollm2, ids, [an_edit(smollm2, hook)])
    assert alike(plain, bridge)
    assert not alike(plain, edited_logits(smollm2, ids, []))


def test_a_bias_of_zeros_is_left_out_here_and_stays_in_the_model_itself(tiny: OpenModel) -> None:
    assert tiny.plain is not None
    linear = [part for part in tiny.plain._model.modules() if isinstance(part, torch.nn.Linear)]
    assert linear
    assert all(part.bias is None or bool(part.bias.any()) for part in linear)
    own = [part for part in tiny.bridge.original_model.modules() if isinstance(part, torch.nn.Linear)]
    assert any(part.bias is not None and not bool(part.bias.any()) for part in own)
