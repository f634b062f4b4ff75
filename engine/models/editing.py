"""Run a model with some of its activations changed: hooks that change them, and the logits that follow."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from engine.models.errors import ModelError

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

Change: TypeAlias = Callable[[Tensor], Tensor]
Hooks: TypeAlias = list[tuple[str | Callable[..., Any], Callable[..., Any]]]
_PROBE = 12  # tokens
RESID_MID = re.compile(r"blocks\.(\d+)\.hook_resid_mid")


@dataclass(frozen=True)
class Edit:
    """A change of the activations at one hook point.

    Attributes:
        hook: hook point, by its familiar or its canonical name.
        change: gives for activations (n, width) float32, heads flattened, what takes their place, (n, width).
        where: (batch, position) bool, the positions that are changed; None for all of them.
    """

    hook: str
    change: Change
    where: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` (batch, position, width) with the change made where it applies, in the dtype of ``x``."""
        if self.where is None:
            return self.change(x.flatten(0, 1).float()).reshape(x.shape).to(x.dtype)
        if not bool(self.where.any()):
            return x
        edited = x.clone()
        edited[self.where] = self.change(x[self.where].float()).to(x.dtype)
        return edited


def edited_logits(model: OpenModel, ids: Tensor, edits: Sequence[Edit]) -> Tensor:
    """Logits (batch, position, vocabulary), float32, of token ids (batch, position) with ``edits`` in place.

    Without edits they are the clean model's. Padding on the right is harmless: no position sees a later one.
    The model runs without TransformerLens' wrappers where `is_plain` finds that this is the same.

    Raises:
        ModelError: there is no such hook point, it has no vector per token, or the contexts are too long.
    """
    for edit in edits:
        model.check_hook(edit.hook)
    if ids.shape[1] > model.facts.context:
        raise ModelError(
            f"A prompt has {ids.shape[1]:,} tokens, but {model.facts.title} reads at most {model.facts.context:,}; "
            "shorten it."
        )
    ids = ids.to(model.device)
    if is_plain(model, [edit.hook for edit in edits]):
        logits = plain_logits(model, ids, edits)
        assert logits is not None
        return logits.float()
    return _bridge_logits(model, ids, edits).float()


def is_plain(model: OpenModel, hooks: Sequence[str]) -> bool:
    """Whether edits at ``hooks`` do the same to `OpenModel.plain` as to TransformerLens' model.

    Never assumed: for each hook point both ways are run once on a probe with the activations there changed.
    """
    plain = model.plain
    if plain is None:
        return False
    tokens = probe(model)

    def same(edits: list[Edit]) -> bool:
        return plain.agrees(
            f"edit {edits[0].hook}" if edits else "no edit",
            lambda: plain_logits(model, tokens, edits),
            lambda: _bridge_logits(model, tokens, edits),
        )

    with model.lock:
        return same([]) and all(same([Edit(hook, nudge)]) for hook in hooks)


def probe(model: OpenModel) -> Tensor:
    """A few different token ids (1, position) on the model's device, on which two ways to run it are compared."""
    return (torch.arange(min(_PROBE, model.facts.context), device=model.device) * 7 + 3)[None] % model.facts.vocabulary


def nudge(x: Tensor) -> Tensor:
    """``x`` (n, width) changed by about half its norm, each row otherwise."""
    signs = torch.where(torch.arange(x.shape[-1], device=x.device) % 2 == 0, 1.0, -1.0)
    return 0.8 * x + 0.4 * signs * x.square().mean(-1, keepdim=True).sqrt()


def plain_logits(model: OpenModel, ids: Tensor, edits: Sequence[Edit], **how: Any) -> Tensor | None:
    """Logits from `OpenModel.plain` in the model's dtype; ``how`` as in `PlainForward.logits`.

    None where a hook point is no part's input or output. To be asked where `is_plain` holds.
    """
    if model.plain is None:
        return None
    changes = [change for edit in edits for change in _plain_changes(model, edit)]
    with model.lock:
        return model.plain.logits(ids, changes, **how)


def _plain_changes(model: OpenModel, edit: Edit) -> list[tuple[str, Change]]:
    """As `splicing`, by canonical names and for `PlainForward.logits`."""
    middle = RESID_MID.fullmatch(edit.hook)
    if middle is None:
        return [(model.hook_point(edit.hook).canonical, edit)]
    before: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        before[:] = [x]
        return x

    def add(attention: Tensor) -> Tensor:
        x = before[0] + attention
        return attention + (edit(x) - x)

    block = f"blocks.{middle[1]}"
    return [
        (model.hook_point(f"{block}.hook_resid_pre").canonical, keep),
        (model.hook_point(f"{block}.hook_attn_out").canonical, add),
    ]


def _bridge_logits(model: OpenModel, ids: Tensor, edits: Sequence[Edit]) -> Tensor:
    hooks = [hook for edit in edits for hook in splicing(edit.hook, edit)]
    with model.lock, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        logits: Tensor = model.bridge.run_with_hooks(ids, return_type="logits", fwd_hooks=hooks)
    return logits


def splicing(hook: str, replace: Change) -> Hooks:
    """Hooks that put ``replace(x)`` in place of the activations x (batch, position, width) of ``hook``.

    Heads are flattened into the width and unflattened again. ``blocks.L.hook_resid_mid`` is in
    TransformerLens 4.3 only a name for the input of the norm before the MLP: an edit there would change the
    MLP's input and not the residual stream. The difference is therefore added to the attention's output.
    """
    middle = RESID_MID.fullmatch(hook)
    if middle is None:

        def edit(activations: Tensor, hook: Any = None) -> Tensor:
            flat = activations.flatten(2)
            return replace(flat).reshape(activations.shape).to(activations.dtype)

        return [(hook, edit)]

    block = f"blocks.{middle[1]}"
    before: list[Tensor] = []

    def keep(activations: Tensor, hook: Any = None) -> None:
        before[:] = [activations]

    def add(activations: Tensor, hook: Any = None) -> Tensor:
        x = before[0] + activations
        return (activations + (replace(x) - x)).to(activations.dtype)

    return [(f"{block}.hook_resid_pre", keep), (f"{block}.hook_attn_out", add)]
