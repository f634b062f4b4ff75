"""sparsify: a folder for each hook point with ``cfg.json`` and ``sae.safetensors``; TopK coders and transcoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.formats.found import Found, Parts, hook_points, transcodes
from engine.dictionaries.formats.stored import (
    read_json,
    read_safetensors,
    require_memory,
    unknown,
    whole,
    words,
)

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"


def read(file: Path) -> Found:
    """The dictionary whose weights are in ``file``. Raises `DictionaryError`."""
    config_file = file.with_name(CONFIG)
    config = read_json(config_file)
    activation = words(config, "activation") or "topk"
    if activation != "topk" or config.get("signed"):
        raise unknown("activation", "signed topk" if activation == "topk" else activation, ["topk"], config_file)
    tensors = read_safetensors(file)
    require_memory(tensors)
    d_in = whole(config, "d_in", config_file)
    width = whole(config, "num_latents", config_file, least=0) if config.get("num_latents") is not None else 0
    width = width or d_in * whole(config, "expansion_factor", config_file)
    transcodes = bool(config.get("transcode", False))
    parts = Parts(
        W_enc=tensors.take("encoder.weight", width, d_in).t().contiguous(),
        W_dec=tensors.take("W_dec", width, d_in),
        b_enc=tensors.take("encoder.bias", width),
        b_dec=tensors.take("b_dec", d_in),
        W_skip=tensors.take("W_skip", d_in, d_in).t().contiguous() if config.get("skip_connection") else None,
    )
    skips = parts.W_skip is not None
    seed = file.parent.name if file.parent.name.startswith("seed") else ""
    module = file.parent.parent.name if seed else file.parent.name
    hook_in, hook_out = hook_points(module, transcodes=transcodes)
    neutral = DictionaryConfig(
        architecture=("skip-transcoder" if skips else "transcoder") if transcodes else "topk",
        d_in=d_in,
        d_out=d_in,
        width=width,
        k=whole(config, "k", config_file),
        centre=not transcodes,
        activation="topk",
        hook_in=hook_in,
        hook_out=hook_out,
        model=_model(file.parent.parent.parent if seed else file.parent.parent),
        dtype=tensors.dtype("W_dec"),
    )
    facts: dict[str, Any] = {"module": module} | ({"seed": seed} if seed else {})
    name = f"{module} {seed}".strip()
    return Found(Dictionary(neutral, **parts.tensors()), name, "sparsify", facts)


def files_of(dictionary: Dictionary) -> dict[str, bytes]:
    """Content by name of the files of ``dictionary``, for the folder of one hook point.

    Raises:
        DictionaryError: sparsify has no such dictionary.
    """
    from safetensors.torch import save

    config = dictionary.config
    if config.activation != "topk":
        raise DictionaryError(f"sparsify has only topk, and this dictionary is {config.activation}; choose saelens.")
    if config.normalise != "none":
        raise DictionaryError(f"sparsify cannot normalise each activation ({config.normalise}); write it as saelens.")
    if config.d_in != config.d_out:
        raise DictionaryError(
            f"sparsify's dictionaries write as many numbers as they read, and this one reads {config.d_in:,} and "
            f"writes {config.d_out:,}; choose saelens."
        )
    transcode = transcodes(dictionary)
    parts = Parts.of(dictionary).centring(dictionary, not transcode)
    tensors = {"encoder.weight": parts.W_enc.t(), "encoder.bias": parts.b_enc}
    tensors |= {"W_dec": parts.W_dec, "b_dec": parts.b_dec}
    if parts.W_skip is not None:
        tensors["W_skip"] = parts.W_skip.t()
    values = {
        "activation": "topk",
        "expansion_factor": max(config.width // config.d_in, 1),
        "normalize_decoder": not transcode,
        "num_latents": config.width,
        "k": config.k,
        "multi_topk": False,
        "skip_connection": parts.W_skip is not None,
        "transcode": transcode,
        "d_in": config.d_in,
    }
    contiguous = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    return {CONFIG: json.dumps(values, indent=1).encode(), WEIGHTS: save(contiguous)}


def _model(run: Path) -> str:
    """The model that the run's config names."""
    return words(read_json(run / "config.json"), "model") if (run / "config.json").is_file() else ""
