"""Stream activations out of a model: only to the deepest hook point asked for, only those asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.errors import ModelError

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

_PROBE = 16  # tokens


def hook_width(model: OpenModel, hook: str) -> int:
    """Values per token at ``hook``, heads flattened. Raises `ModelError` when it has none or does not exist."""
    return model.check_hook(hook)


def capture(
    model: OpenModel, ids: npt.NDArray[Any], hooks: Sequence[str], *, batch: int = 8, run: Run | None = None
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Activations of contexts of tokens, batch after batch, in the order of ``ids``.

    Args:
        model: the model.
        ids: token ids (contexts, positions), any integer type; may be a memory map.
        hooks: hook points by familiar or canonical name.
        batch: contexts per forward pass.
        run: hears of the tokens done, and can be paused and stopped between batches.

    Yields:
        The rows of ``ids``, and by hook as it was named a float32 tensor (batch, position, width) on the
        model's device, heads flattened. It is a copy, so it may be kept or changed.

    Raises:
        ModelError: at once, when a hook point does not exist or has no vector per token, when contexts
            are longer than the model's, or when an id is not in its vocabulary.
    """
    for hook in hooks:
        model.check_hook(hook)
    if not hooks:
        raise ModelError("Nothing to capture: name at least one hook point.")
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ModelError(f"Capture takes token ids of shape (contexts, positions), not {ids.dtype} {ids.shape}.")
    if ids.shape[1] > model.facts.context:
        raise ModelError(
            f"A context has {ids.shape[1]} tokens, but {model.facts.title} reads at most {model.facts.context}; "
            "use shorter contexts."
        )
    return _stream(model, ids, list(hooks), max(int(batch), 1), run)


def _stream(
    model: OpenModel, ids: npt.NDArray[Any], hooks: list[str], batch: int, run: Run | None
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    canonical = {hook: model.hook_point(hook).canonical for hook in hooks}
    wanted = list(dict.fromkeys(canonical.values()))
    total, began = ids.size, run.seconds if run is not None else 0.0
    plain: bool | None = None
    for start in range(0, ids.shape[0], batch):
        rows = slice(start, min(start + batch, ids.shape[0]))
        if run is not None:
            run.point()
        tokens = _checked(model, np.asarray(ids[rows]))
        if plain is None:
            plain = _can_be_plain(model, wanted, tokens)
        with model.lock:
            found = model.plain.read(tokens, wanted) if plain and model.plain is not None else None
            if found is None:
                found = bridge_read(model, tokens, wanted)
        yield rows, {hook: found[canonical[hook]].to(torch.float32, copy=True) for hook in hooks}
        if run is not None:
            run.progress(rows.stop * ids.shape[1], total, "tokens", since=(0, began))


def _checked(model: OpenModel, ids: npt.NDArray[Any]) -> Tensor:
    vocabulary = model.facts.vocabulary
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
        wrong = int(ids[(ids < 0) | (ids >= vocabulary)][0])
        raise ModelError(f"Token id {wrong} is not in the vocabulary of {model.facts.title} (0 to {vocabulary - 1}).")
    return torch.as_tensor(ids.astype(np.int64), device=model.device)


def _can_be_plain(model: OpenModel, wanted: list[str], tokens: Tensor) -> bool:
    if model.plain is None:
        return False
    probe = tokens[:1, :_PROBE]
    with model.lock:
        return model.plain.serves(wanted, probe, lambda: bridge_read(model, probe, wanted))


def bridge_read(model: OpenModel, tokens: Tensor, canonical: Sequence[str]) -> dict[str, Tensor]:
    """Activations (batch, position, width) by canonical name through TransformerLens, in the model's dtype.

    The pass stops before the first block that is not needed. Used where `PlainForward` does not serve.
    """
    layers = [model.hook_point(name).layer for name in canonical]
    names = set(canonical)
    stop = None
    if all(layer is not None or name.startswith(_EARLY) for layer, name in zip(layers, canonical, strict=True)):
        stop = max((layer for layer in layers if layer is not None), default=-1) + 1
    if stop is not None and stop >= model.facts.layers:
        stop = None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        _, cache = model.bridge.run_with_cache(
            tokens, names_filter=lambda name: name in names, stop_at_layer=stop, return_cache_object=False
        )
    return {name: cache[name].flatten(2) if cache[name].dim() > 3 else cache[name] for name in canonical}


_EARLY = ("embed.", "pos_embed.", "rotary_emb.")
