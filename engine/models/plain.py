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
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

# Largest relative difference of one token's activation between the two ways. Rounding gives 1e-5 in
# float32 and about 1e-2 in the half formats; a different place in the model gives about 1.
SAME = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 2e-2}

_INPUTS = ("hidden_states", "x", "input")  # what parts call the activations that they are given
_GROWING = ("DynamicLayer", "DynamicSlidingWindowLayer")  # they never write into a tensor that they gave out

Replace: TypeAlias = Callable[[Tensor], Tensor]
UNSERVED = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)  # from a forward of another kind


@dataclass(frozen=True, eq=False)
class Lower:
    """What the first ``blocks`` blocks gave for some ids: all that blocks above need of them.

    Attributes:
        blocks: their number, at least 1.
        output: as the last of them gave it, a tensor (batch, position, width) or a tuple that begins with one.
        layers: their keys and values.
    """

    blocks: int
    output: Any
    layers: tuple[Any, ...]


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
            _drop_zero_biases(model)
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
                except UNSERVED:
                    found = None  # its forward wants more than ids: TransformerLens' own way serves
                if found is not None and expected is None:
                    expected = reference()
                self._verified[name] = found is not None and _same(found[name], (expected or {})[name])
        return all(self._verified[name] for name in canonical)

    def logits(
        self,
        ids: Tensor,
        edits: Sequence[tuple[str, Replace]] = (),
        *,
        past: Any = None,
        last: int | Tensor = 0,
        lower: Lower | None = None,
    ) -> Tensor | None:
        """Logits (batch, position, vocabulary), in the model's dtype, with activations replaced.

        Args:
            ids: token ids (batch, position), after those that ``past`` holds.
            edits: hook points by canonical name, and what gives for activations (batch, position, width), heads
                flattened, what takes their place.
            past: keys and values of the tokens before, from `cache`; those of ``ids`` are added to them.
            last: logits of that many last positions only, 0 for all of them; or of these positions (n,), ascending.
            lower: stands in for the lowest blocks, which are not run. With it ``past`` is empty before.

        Returns:
            None where a hook point is no part's input or output.
        """
        places = [self._place(name) for name, _ in edits]
        if any(place is None for place in places):
            return None
        with self._lock, contextlib.ExitStack() as undone:
            if lower is not None:
                undone.enter_context(self._without(lower))
            for place, (_, replace) in zip(places, edits, strict=True):
                assert place is not None
                undone.callback(_alter(*place, replace).remove)
            found = self._logits(ids, past, last)
            if lower is not None and past is not None:
                past.layers[: lower.blocks] = [copy.copy(layer) for layer in lower.layers]
        return found

    def cache(self) -> Any:
        """An empty store of keys and values for `logits`; None where the model knows none."""
        if self._native:
            return None
        from transformers import DynamicCache

        try:
            config: Any = self._model.config
            return DynamicCache(config=config)
        except UNSERVED:
            return None

    def lower(self, ids: Tensor, blocks: int, *, past: Any, last: int | Tensor = 0) -> tuple[Tensor, Lower | None]:
        """Logits as by `logits`, without edits, and what the first ``blocks`` blocks gave on the way.

        None for the latter where there are none, or their state is more than keys and values that are only added to.
        Without ``past`` no keys and values are kept: it then serves passes that have none either.
        """
        part = self._parts.get(f"blocks.{blocks - 1}")
        seen: list[Any] = []
        with self._lock, contextlib.ExitStack() as undone:
            if part is not None:
                undone.callback(part.register_forward_hook(lambda *called: seen.append(called[2])).remove)
            logits = self._logits(ids, past, last)
        if past is None:
            return logits, Lower(blocks, seen[0], ()) if seen else None
        layers = tuple(copy.copy(layer) for layer in past.layers[:blocks])
        if not seen or len(layers) != blocks or any(type(layer).__name__ not in _GROWING for layer in layers):
            return logits, None
        return logits, Lower(blocks, seen[0], layers)

    def agrees(self, what: str, found: Callable[[], Tensor | None], expected: Callable[[], Tensor]) -> bool:
        """Whether two ways to the logits (batch, position, vocabulary) of a probe are the same way; asked once.

        Args:
            what: names the question.
            found: the way here; None, or an error of a forward that takes other arguments, where there is none.
            expected: the known way.
        """
        if what not in self._verified:
            try:
                here = found()
            except UNSERVED:
                here = None
            self._verified[what] = here is not None and _same(_centred(here), _centred(expected()))
        return self._verified[what]

    @contextlib.contextmanager
    def _without(self, lower: Lower) -> Iterator[None]:
        """The lowest blocks give what they gave before, and compute nothing."""
        skipped = [self._parts[f"blocks.{number}"] for number in range(lower.blocks)]
        with contextlib.ExitStack() as undone:
            for part in skipped:
                part.forward = lambda *_, **__: lower.output
                undone.callback(part.__dict__.pop, "forward")
            yield

    def _logits(self, ids: Tensor, past: Any, last: int | Tensor) -> Tensor:
        positions = last if isinstance(last, Tensor) else None
        with torch.no_grad():
            if self._native:
                output: Any = self._model(ids)
            else:
                keep = {"logits_to_keep": last} if (positions is not None or last) and self._keeps else {}
                output = self._model(input_ids=ids, past_key_values=past, use_cache=past is not None, **keep)
        found: Tensor = output if isinstance(output, Tensor) else output.logits
        if positions is not None:
            return found if found.shape[1] == len(positions) else found[:, positions]
        return found[:, -last:] if last else found

    @cached_property
    def _keeps(self) -> bool:
        return "logits_to_keep" in inspect.signature(self._model.forward).parameters

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
            candidates = [*positional, *(named.get(name) for name in _INPUTS)]
            keep(next((value for value in candidates if isinstance(value, Tensor)), None))

        return part.register_forward_pre_hook(seen, with_kwargs=True)

    def came(module: nn.Module, positional: tuple[Any, ...], output: Any) -> None:
        keep(output[0] if isinstance(output, (tuple, list)) and output else output)

    return part.register_forward_hook(came)


def _alter(part: nn.Module, before: bool, replace: Replace) -> Any:
    """Put ``replace(x)`` in the place of the input or output x of ``part``; what is given back removes that again."""

    def altered(x: Tensor) -> Tensor:
        return replace(x.flatten(2)).reshape(x.shape).to(x.dtype)

    if before:

        def goes(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
            for number, value in enumerate(positional):
                if isinstance(value, Tensor):
                    return (*positional[:number], altered(value), *positional[number + 1 :]), named
            for name in _INPUTS:
                if isinstance(named.get(name), Tensor):
                    return positional, named | {name: altered(named[name])}
            raise TypeError(f"A {type(module).__name__} was called without activations.")

        return part.register_forward_pre_hook(goes, with_kwargs=True)

    def came(module: nn.Module, positional: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, (tuple, list)):
            return type(output)([altered(output[0]), *output[1:]])
        return altered(output)

    return part.register_forward_hook(came)


def _fuse_attention(model: nn.Module) -> None:
    choose: Any = getattr(model, "set_attn_implementation", None)
    if choose is not None:
        with contextlib.suppress(ValueError, ImportError):  # a few architectures (Gemma 2) have no fused attention
            choose("sdpa")


def _drop_zero_biases(model: nn.Module) -> None:
    """TransformerLens gives an unembedding without bias one of zeros, which costs a copy of all logits to add."""
    for part in model.modules():
        if isinstance(part, nn.Linear) and part.bias is not None and not bool(part.bias.any()):
            part.bias = None  # type: ignore[assignment]


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


def _centred(logits: Tensor) -> Tensor:
    """Logits without what is common to all tokens, which says nothing and may be large."""
    return (logits.float() - logits.float().mean(-1, keepdim=True)).to(logits.dtype)


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
