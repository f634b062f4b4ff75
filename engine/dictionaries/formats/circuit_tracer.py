"""circuit-tracer: a transcoder for each layer in ``layer_N.safetensors``, with a ``config.yaml`` for all of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.formats.found import Found, Parts
from engine.dictionaries.formats.stored import (
    StoredTensors,
    read_safetensors,
    read_yaml,
    require_memory,
    words,
)

CONFIG = "config.yaml"
THRESHOLD = "activation_function.threshold"


def read(file: Path) -> Found:
    """The transcoder of one layer in ``file``. Raises `DictionaryError`."""
    config_file = file.with_name(CONFIG)
    config: dict[str, Any] = read_yaml(config_file) if config_file.is_file() else {}
    if words(config, "model_kind") not in ("", "transcoder_set"):
        raise DictionaryError(
            f"{config_file} has the model_kind “{config['model_kind']}”, which Superscope cannot compute; "
            "it knows transcoder_set."
        )
    tensors = read_safetensors(file)
    require_memory(tensors)
    parts = _parts(tensors)
    (d_in, width), d_out = parts.W_enc.shape, parts.W_dec.shape[1]
    number = re.findall(r"\d+", file.name)[-1]
    hooks = [words(config, f"feature_{side}_hook") for side in ("input", "output")]
    activation = "jumprelu" if parts.threshold is not None else "topk" if "k" in tensors else "relu"
    neutral = DictionaryConfig(
        architecture="transcoder" if parts.W_skip is None else "skip-transcoder",
        d_in=d_in,
        d_out=d_out,
        width=width,
        k=int(tensors.number("k")) if activation == "topk" else None,
        centre=False,
        activation=activation,
        hook_in=f"blocks.{number}.{hooks[0] or 'mlp.hook_in'}",
        hook_out=f"blocks.{number}.{hooks[1] or 'hook_mlp_out'}",
        model=words(config, "model_name"),
        dtype=tensors.dtype("W_enc"),
    )
    facts = {"scan": words(config, "scan")} if words(config, "scan") else {}
    return Found(Dictionary(neutral, **parts.tensors()), f"layer {number}", "circuit-tracer", facts)


def _parts(tensors: StoredTensors) -> Parts:
    width, d_in = tensors.matrix("W_enc")
    d_out = tensors.vector("b_dec")
    threshold = _threshold(tensors, width) if THRESHOLD in tensors else None
    # The first releases stored the decoder (D, F) where later ones have (F, D).
    turned = tensors.matrix("W_dec") == (d_out, width) and width != d_out
    decoder = tensors.take("W_dec", d_out, width).t().contiguous() if turned else tensors.take("W_dec", width, d_out)
    parts = Parts(
        W_enc=tensors.take("W_enc", width, d_in).t().contiguous(),
        W_dec=decoder,
        b_enc=tensors.take("b_enc", width),
        b_dec=tensors.take("b_dec", d_out),
        threshold=threshold,
    )
    if "W_skip" in tensors:
        parts = replace(parts, W_skip=tensors.take("W_skip", d_out, d_in).t().contiguous())
    return parts


def _threshold(tensors: StoredTensors, width: int) -> Any:
    single = tensors.shapes[THRESHOLD] in ((), (1,))
    threshold = tensors.take(THRESHOLD, *tensors.shapes[THRESHOLD]) if single else tensors.take(THRESHOLD, width)
    if bool((threshold < 0).any()):
        raise DictionaryError(
            f"{tensors.file} has thresholds below zero, where circuit-tracer lets latents be negative; "
            "Superscope's are positive."
        )
    return threshold.expand(width).contiguous()
