"""What is run again and again with edits gives what whole passes give, and runs less."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.models import repeated
from engine.models.editing import edited_logits
from engine.models.errors import ModelError
from engine.models.opening import OpenModel, open_model
from engine.models.repeated import Repeated, spared_blocks
from tests.engine.models.test_editing import HOOKS, alike, an_edit, some_ids

AT = torch.tensor([1, 4, 5])


@pytest.fixture(scope="module")
def demo() -> OpenModel:
    """The native model that ships."""
    return open_model("demo", device="cpu")


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2: Path) -> OpenModel:
    return open_model(str(tiny_gpt2), device="cpu")


@pytest.mark.parametrize("name", [*(f"blocks.1.{hook}" for hook in HOOKS), "blocks.0.hook_resid_post", "hook_embed"])
@pytest.mark.parametrize("which", ["tiny", "gpt2", "demo"])
def test_repeated_passes_equal_whole_ones(which: str, name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    ids = some_ids(model)
    where = torch.zeros(ids.shape, dtype=torch.bool)
    where[0, 2] = where[1, 5] = True
    passes = Repeated(model, ids, name, at=AT)
    for edits in ([], [an_edit(model, name)], [an_edit(model, name, where)], []):
        assert alike(passes.logits(edits), edited_logits(model, ids, edits)[:, AT])


def test_an_edit_before_the_first_clean_pass_leaves_nothing_behind(tiny: OpenModel) -> None:
    hook, ids = "blocks.1.hook_resid_pre", some_ids(tiny)
    passes, edit = Repeated(tiny, ids, hook), an_edit(tiny, hook)
    assert alike(passes.logits([edit]), edited_logits(tiny, ids, [edit]))
    assert alike(passes.logits(), edited_logits(tiny, ids, []))
    assert alike(passes.logits([edit]), edited_logits(tiny, ids, [edit]))


@pytest.mark.parametrize("which", ["tiny", "gpt2", "demo"])
def test_blocks_below_the_edit_run_once(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    hook = "blocks.0.hook_resid_post"
    assert spared_blocks(model, hook) == 1
    passes = Repeated(model, some_ids(model), hook)
    first = _Counted(model)
    passes.logits()
    for _ in range(3):
        passes.logits([an_edit(model, hook)])
    assert first.calls == 1
    first.remove()


class _Counted:
    """How often the MLP of block 0 runs without wrappers."""

    def __init__(self, model: OpenModel) -> None:
        assert model.plain is not None
        self.calls = 0
        part = model.plain._parts["blocks.0.mlp"]
        self.remove = part.register_forward_hook(self._count).remove

    def _count(self, *called: object) -> None:
        self.calls += 1


def test_nothing_is_held_on_to_where_that_is_not_wanted(tiny: OpenModel) -> None:
    hook, ids = "blocks.1.hook_resid_pre", some_ids(tiny)
    passes = Repeated(tiny, ids, hook, at=AT, keep=False)
    passes.logits()
    assert passes._lower is None
    assert alike(passes.logits([an_edit(tiny, hook)]), edited_logits(tiny, ids, [an_edit(tiny, hook)])[:, AT])


def test_a_model_that_runs_in_wrappers_only_gives_the_same(tiny: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, ids = "blocks.1.hook_resid_pre", some_ids(tiny)
    monkeypatch.setattr(repeated, "is_plain", lambda model, hooks: False)
    passes = Repeated(tiny, ids, hook, at=AT)
    assert alike(passes.logits([an_edit(tiny, hook)]), edited_logits(tiny, ids, [an_edit(tiny, hook)])[:, AT])


def test_what_cannot_be_run_is_refused_in_a_sentence(tiny: OpenModel) -> None:
    with pytest.raises(ModelError, match="choose another hook point"):
        Repeated(tiny, some_ids(tiny), "blocks.0.attn.hook_pattern")
    long = some_ids(tiny, 1, tiny.facts.context + 1)
    with pytest.raises(ModelError, match="shorten it"):
        Repeated(tiny, long, "blocks.1.hook_resid_pre", at=AT).logits()
