"""The model as transformers runs it, without TransformerLens' wrappers around each part.

TransformerLens replaces the parts of a loaded model by wrappers that fire hooks, and computes
attention step by step so that its scores can be read. Capturing a residual stream needs neither:
here the original parts are put together again (sharing every weight, so this costs no memory),
with transformers' fused attention. What a hook point means is never assumed: it is read this way only
after both ways gave the same activations on a probe.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

# Largest relative difference of one token's activation between the two ways. Rounding gives 1e-5 in
# float32 and about 1e-2 in the half formats; a different place in the model gives about 1.
SAME = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 2e-2}


class _Enough(Exception):
    """All that was asked for has been seen, so the forward pass ends here."""


class PlainForward:
    """Runs the model without wrappers and reads activations from it. Made by `of`."""

    def __init__(self, model: nn.Module, parts: dict[str, nn.Module], native: bool) -> None:
        self._model = model
        self._parts = parts
        self._native = native
        self._verified: dict[str, bool] = {}
        self._lock = threading.RLock()

    @classmethod
    def of(cls, bridge: TransformerBridge) -> PlainForward | None:
        """The plain form of ``bridge``; None where its model cannot be put together again."""
        from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

        root = bridge.original_model
        shared = {id(tensor): tensor for tensor in (*root.parameters(), *root.buffers())}
        memo: dict[int, Any] = dict(shared)
        try:
            # Innermost first: a wrapper's original part contains other wrappers, by then already replaced.
            for wrapper in _innermost_first(root):
                if isinstance(wrapper, GeneralizedComponent) and wrapper.original_component is not None:
                    memo[id(wrapper)] = copy.deepcopy(wrapper.original_component, memo)
            model = copy.deepcopy(root, memo)
            _fuse_attention(model)
        except (AttributeError, TypeError, ValueError, RuntimeError, NotImplementedError, ImportError):
            return None  # a model with parts that cannot be copied: TransformerLens' own way serves
        if any(isinstance(part, GeneralizedComponent) for part in model.modules()):
            return None
        parts = {
            str(wrapper.hook_in.name).rpartition(".")[0]: memo[id(wrapper)]
            for wrapper in bridge.modules()
            if isinstance(wrapper, GeneralizedComponent) and id(wrapper) in memo
        }
        native = str(bridge.cfg.architecture) == "TransformerLensNative"
        return cls(model.eval(), parts, native)

    def read(self, ids: Tensor, canonical: Sequence[str]) -> dict[str, Tensor] | None:
        """Activations (batch, position, width) at hook points by canonical name, heads flattened, in the model's dtype.

        The pass ends as soon as all have been seen. None where one of them is no part's input or output.
        """
        places = [self._place(name) for name in canonical]
        if any(place is None for place in places):
            return None
        found: dict[str, Tensor] = {}
        missing = set(canonical)

        def keeper(name: str) -> Callable[[Any], None]:
            def keep(value: Any) -> None:
                if name in missing and isinstance(value, Tensor):
                    found[name] = value.detach().flatten(2) if value.dim() > 3 else value.detach()
                    missing.discard(name)
                    if not missing:
                        raise _Enough

            return keep

        with self._lock:
            handles = []
            try:
                for name, place in zip(canonical, places, strict=True):
                    assert place is not None
                    handles.append(_listen(*place, keeper(name)))
                with contextlib.suppress(_Enough):  # the way in which every complete reading ends
                    self._forward(ids)
            finally:
                for handle in handles:
                    handle.remove()
        return found if not missing else None

    def serves(self, canonical: Sequence[str], probe: Tensor, reference: Callable[[], dict[str, Tensor]]) -> bool:
        """Whether these hook points can be read here: what is read equals ``reference()`` on the ``probe``.

        Args:
            canonical: hook points by canonical name.
            probe: ids (batch, position) on the model's device.
            reference: TransformerLens' own activations for the probe, asked for only when something is unknown.
        """
        unknown = [name for name in canonical if name not in self._verified]
        if unknown:
            expected: dict[str, Tensor] | None = None
            for name in unknown:
                try:
                    found = self.read(probe, [name])
                except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError):
                    found = None  # its forward wants more than ids: TransformerLens' own way serves
                if found is not None and expected is None:
                    expected = reference()
                self._verified[name] = found is not None and _same(found[name], (expected or {})[name])
        return all(self._verified[name] for name in canonical)

    def _place(self, canonical: str) -> tuple[nn.Module, bool] | None:
        part, _, which = canonical.rpartition(".")
        if part not in self._parts or which not in ("hook_in", "hook_out"):
            return None
        return self._parts[part], which == "hook_in"

    def _forward(self, ids: Tensor) -> None:
        with torch.no_grad():
            if self._native:
                self._model(ids)
            else:
                self._model(input_ids=ids, use_cache=False)


def _listen(part: nn.Module, before: bool, keep: Callable[[Any], None]) -> Any:
    if before:

        def seen(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            candidates = [*positional, named.get("hidden_states"), named.get("x"), named.get("input")]
            keep(next((value for value in candidates if isinstance(value, Tensor)), None))

        return part.register_forward_pre_hook(seen, with_kwargs=True)

    def came(module: nn.Module, positional: tuple[Any, ...], output: Any) -> None:
        keep(output[0] if isinstance(output, (tuple, list)) and output else output)

    return part.register_forward_hook(came)


def _fuse_attention(model: nn.Module) -> None:
    choose: Any = getattr(model, "set_attn_implementation", None)
    if choose is not None:
        with contextlib.suppress(ValueError, ImportError):  # a few architectures (Gemma 2) have no fused attention
            choose("sdpa")


def _innermost_first(root: nn.Module) -> list[nn.Module]:
    """All modules below ``root``, each once, every one before what contains it."""
    seen: set[int] = set()
    order: list[nn.Module] = []

    def visit(module: nn.Module) -> None:
        seen.add(id(module))
        for child in module.children():
            if id(child) not in seen:
                visit(child)
        order.append(module)

    visit(root)
    return order


def _same(found: Tensor, expected: Tensor) -> bool:
    """Whether each token's activation agrees; one by one, since outlier tokens would drown the others."""
    expected = expected.flatten(2) if expected.dim() > 3 else expected
    if found.shape != expected.shape or not found.is_floating_point():
        return False
    tolerance = SAME.get(found.dtype, 1e-3)
    found, expected = found.float(), expected.float()
    difference = torch.linalg.vector_norm(found - expected, dim=-1)
    size = torch.linalg.vector_norm(expected, dim=-1)
    return bool((difference <= tolerance * size + 1e-6).all())
