"""Hook points: their names, shapes and what to know of each, found by one small forward pass."""

from __future__ import annotations

import difflib
import re
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from engine.models.errors import ModelError

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

_LAYER = re.compile(r"blocks\.(\d+)\.")
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)
PARTS = ("residual", "attention", "MLP", "norm", "embedding", "output")

_NOTES = {
    "hook_resid_mid": "Only what the MLP branch reads: an edit here does not change the residual stream; "
    "add the difference to hook_attn_out instead.",
    "hook_mlp_out": "What the MLP adds to the residual stream.",
    "hook_attn_out": "What attention adds to the residual stream.",
    "hook_resid_pre": "The residual stream as the block reads it.",
    "hook_resid_post": "The residual stream as the block leaves it.",
    "hook_scale": "What the norm divides by.",
    "hook_z": "Heads' weighted values, before the output matrix.",
    "hook_pattern": "Attention weights; each row sums to 1.",
    "hook_rot_q": "Queries with their positions rotated in.",
    "hook_rot_k": "Keys with their positions rotated in.",
    "hook_post": "Hidden units of the MLP after the activation function (and the gate).",
}


@dataclass(frozen=True)
class HookPoint:
    """A place in the model where activations can be read.

    Attributes:
        name: as researchers write it (``blocks.0.hook_resid_post``).
        shape: in words, ``(batch, position, d_model)``.
        layer: number of the block, None outside of blocks.
        part: one of `PARTS`.
        note: what it is, and what to beware of.
        canonical: TransformerLens' own name (``blocks.0.hook_out``), which works as well.
        width: values per token with heads flattened, 0 where there is no vector per token.
    """

    name: str
    shape: str
    layer: int | None
    part: str
    note: str
    canonical: str
    width: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def list_hook_points(bridge: TransformerBridge) -> list[HookPoint]:
    """All hook points that fire in a plain forward pass, in the order in which they do."""
    import torch

    cfg = bridge.cfg
    sizes = {int(value) for value in (cfg.n_heads, cfg.d_head, cfg.d_model, cfg.d_mlp or 0, cfg.n_key_value_heads or 0)}
    free = [prime for prime in _PRIMES if prime not in sizes and prime <= cfg.n_ctx] or [1, 2]
    batch, positions = free[0], free[min(1, len(free) - 1)]
    ids = torch.arange(batch * positions, device=cfg.device).reshape(batch, positions) % cfg.d_vocab
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about hook points that need a switch: those are not listed
        _, cache = bridge.run_with_cache(ids, return_cache_object=False)
    familiar = familiar_names(bridge)
    found = []
    for canonical in dict.fromkeys(hook.name for hook in bridge.hook_dict.values() if hook.name):
        value = cache.get(canonical)
        if value is None or not value.is_floating_point():
            continue
        shape = tuple(value.shape)
        name = familiar.get(canonical, canonical)
        layer = _LAYER.match(canonical)
        per_token = len(shape) >= 3 and shape[:2] == (batch, positions)
        width = 1
        for size in shape[2:]:
            width *= size
        found.append(
            HookPoint(
                name=name,
                shape=_in_words(shape, batch, positions, bridge, canonical),
                layer=int(layer.group(1)) if layer else None,
                part=_part(canonical),
                note=_note(name, bridge),
                canonical=canonical,
                width=width if per_token else 0,
            )
        )
    order = {name: number for number, name in enumerate(cache)}
    return sorted(found, key=lambda point: order.get(point.canonical, len(order)))


def familiar_names(bridge: TransformerBridge) -> dict[str, str]:
    """Researchers' name by canonical name, where there is one (``blocks.0.hook_out``: ``blocks.0.hook_resid_post``)."""
    names: dict[str, str] = {}
    for alias, hook in bridge.hook_dict.items():
        if hook.name is not None and alias != hook.name:
            names.setdefault(hook.name, alias)
    return names


def canonical_names(bridge: TransformerBridge) -> dict[str, str]:
    """Canonical name by every name that works."""
    return {name: hook.name or name for name, hook in bridge.hook_dict.items()}


def unknown_hook(name: str, points: list[HookPoint]) -> ModelError:
    """The error for a hook point that the model does not have, with the nearest names it does have."""
    names = [point.name for point in points] + [point.canonical for point in points]
    near = list(dict.fromkeys(difflib.get_close_matches(name, names, n=3, cutoff=0.6)))
    layers = [point.layer for point in points if point.layer is not None]
    asked = _LAYER.match(name)
    if asked and layers and int(asked.group(1)) > max(layers):
        return ModelError(f"There is no hook point {name}: this model's blocks are numbered 0 to {max(layers)}.")
    hint = f"did you mean {' or '.join(near)}?" if near else "the model card lists all of them."
    return ModelError(f"This model has no hook point {name}; {hint}")


def _part(canonical: str) -> str:
    name = _LAYER.sub("", canonical)
    if name.startswith(("embed", "pos_embed", "rotary")):
        return "embedding"
    if name.startswith("unembed"):
        return "output"
    if name.startswith("ln"):
        return "norm"
    if name.startswith("attn"):
        return "attention"
    if name.startswith("mlp"):
        return "MLP"
    return "residual"


def _note(name: str, bridge: TransformerBridge) -> str:
    cfg = bridge.cfg
    last = name.rpartition(".")[2]
    grouped = cfg.n_key_value_heads and cfg.n_key_value_heads != cfg.n_heads
    if last in ("hook_k", "hook_v") and grouped:
        return f"{cfg.n_key_value_heads} key/value heads serve {cfg.n_heads} query heads."
    if last == "hook_attn_scores":
        native = cfg.architecture == "TransformerLensNative"
        edits = " An edit here is discarded in this model; edit hook_pattern." if native else ""
        return f"Attention scores before the softmax; −∞ where masked.{edits}"
    if last == "hook_pre":
        return f"Hidden units of the MLP before {cfg.act_fn}" + (" (the gate)." if cfg.gated_mlp else ".")
    return _NOTES.get(last, "")


def _in_words(shape: tuple[int, ...], batch: int, positions: int, bridge: TransformerBridge, canonical: str) -> str:
    cfg = bridge.cfg
    names = {int(cfg.d_vocab): "vocabulary", int(cfg.d_mlp or 0): "d_mlp", int(cfg.d_model): "d_model"}
    in_heads = {int(cfg.d_head): "d_head"}
    words = []
    for place, size in enumerate(shape):
        if place == 0 and size == batch:
            words.append("batch")
        elif size == positions:
            words.append("position" if "position" not in words else "source position")
        elif len(shape) == 4 and size in (cfg.n_heads, cfg.n_key_value_heads) and place in (1, 2):
            words.append("head" if size == cfg.n_heads else "key/value head")
        elif len(shape) == 4 and size in in_heads:
            words.append("d_head")
        elif size == cfg.d_mlp and ".mlp." in canonical and canonical.split(".mlp.")[1] not in ("hook_in", "hook_out"):
            words.append("d_mlp")
        else:
            words.append(names.get(size, str(size)))
    return f"({', '.join(words)})"
