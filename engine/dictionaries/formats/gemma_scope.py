"""Gemma Scope 1 (``params.npz``) and 2 (``params.safetensors``): JumpReLU, not centred, one dictionary a folder.

Lieberum et al. 2024, Gemma Scope. The files say little: model, site and layer are in the names of their folders.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.formats.found import Found, Parts
from engine.dictionaries.formats.stored import (
    StoredTensors,
    read_json,
    read_npz,
    read_safetensors,
    require_memory,
    unknown,
    words,
)

_SITES = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
_REPOSITORY = re.compile(r"gemma-scope-(\d+b-(?:pt|it))-(res|mlp|att|transcoders)")
_LAYER = re.compile(r"layer_(\d+)")
NAMES = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")


def read(file: Path) -> Found:
    """The first Gemma Scope's dictionary in ``file``. Raises `DictionaryError`."""
    tensors = read_npz(file)
    require_memory(tensors)
    where = file.parent.absolute().as_posix()
    lower = "W_enc" not in tensors and "w_enc" in tensors  # a few were stored so
    parts = _parts(tensors, {name: name.replace("W_", "w_") if lower else name for name in NAMES})
    embedding = "/embedding" in where
    if embedding:
        # They were trained on embeddings times √D, which is how Gemma uses them; the hook point has them before.
        root = float(parts.W_enc.shape[0]) ** 0.5
        parts = replace(parts, W_enc=parts.W_enc / root, W_dec=parts.W_dec * root)
    repository = _REPOSITORY.search(where)
    site = repository[2] if repository else ""
    layer = _LAYER.search(where)
    block = f"blocks.{layer[1]}" if layer else ""
    transcodes = site == "transcoders" or "transcoder" in where
    if transcodes:
        hooks = (f"{block}.ln2.hook_normalized", f"{block}.hook_mlp_out") if block else ("", "")
    elif embedding:
        hooks = ("hook_embed", "hook_embed")
    else:
        hook = f"{block}.{_SITES[site]}" if block and site in _SITES else ""
        hooks = (hook, hook)
    model = f"google/gemma-2-{repository[1].removesuffix('-pt')}" if repository else ""
    return _found(file, parts, tensors, hooks, model, transcodes, "gemma-scope")


def read_second(file: Path) -> Found:
    """The second Gemma Scope's dictionary in ``file``. Raises `DictionaryError`."""
    config_file = file.with_name("config.json")
    config = read_json(config_file)
    if words(config, "architecture") != "jump_relu":
        raise unknown("architecture", config.get("architecture"), ["jump_relu"], config_file)
    tensors = read_safetensors(file)
    require_memory(tensors)
    if len(tensors.shapes.get("w_dec", ())) == 3:
        raise DictionaryError(
            f"{file} is a layer of a cross-layer transcoder, which Superscope cannot compute yet; "
            "choose a transcoder of a single layer."
        )
    parts = _parts(tensors, {name: name.replace("W_", "w_") for name in NAMES})
    if "affine_skip_connection" in tensors:
        shape = (parts.W_enc.shape[0], parts.W_dec.shape[1])
        parts = replace(parts, W_skip=tensors.take("affine_skip_connection", *shape))
    elif config.get("affine_connection"):
        raise DictionaryError(
            f"{config_file} names an affine connection, but {file.name} has no tensor affine_skip_connection; "
            "get it again."
        )
    theirs = (words(config, "hf_hook_point_in"), words(config, "hf_hook_point_out"))
    transcodes = bool(theirs[1]) and theirs[0] != theirs[1]
    layer = _LAYER.search(file.parent.absolute().as_posix()) or re.search(r"layers\.(\d+)", theirs[0])
    hooks = _hooks(theirs[0], f"blocks.{layer[1]}" if layer else "", transcodes)
    model = words(config, "model_name").replace("-v3", "-3")
    model = model if "/" in model or not model else f"google/{model}"
    found = _found(file, parts, tensors, hooks, model, transcodes, "gemma-scope-2")
    return replace(found, facts=found.facts | {"hf_hook_point_in": theirs[0], "hf_hook_point_out": theirs[1]})


def _parts(tensors: StoredTensors, names: dict[str, str]) -> Parts:
    d_in, width = tensors.matrix(names["W_enc"])
    d_out = tensors.matrix(names["W_dec"])[1]
    return Parts(
        W_enc=tensors.take(names["W_enc"], d_in, width),
        W_dec=tensors.take(names["W_dec"], width, d_out),
        b_enc=tensors.take(names["b_enc"], width),
        b_dec=tensors.take(names["b_dec"], d_out),
        threshold=tensors.take(names["threshold"], width),
    )


def _hooks(theirs: str, block: str, transcodes: bool) -> tuple[str, str]:
    """Hook points from transformers' names of modules; those that are not known stay as they are."""
    if not block:
        return theirs, theirs
    if transcodes:
        return f"{block}.mlp.hook_in", f"{block}.hook_mlp_out"
    if "o_proj" in theirs:
        name = f"{block}.attn.hook_z"
    elif "feedforward" in theirs or "mlp" in theirs:
        name = f"{block}.hook_mlp_out"
    else:
        name = f"{block}.hook_resid_post"
    return name, name


def _found(
    file: Path, parts: Parts, tensors: StoredTensors, hooks: tuple[str, str], model: str, transcodes: bool, format: str
) -> Found:
    (d_in, width), d_out = parts.W_enc.shape, parts.W_dec.shape[1]
    architecture = "jumprelu"
    if transcodes:
        architecture = "transcoder" if parts.W_skip is None else "skip-transcoder"
    config = DictionaryConfig(
        architecture=architecture,
        d_in=d_in,
        d_out=d_out,
        width=width,
        k=None,
        centre=False,
        activation="jumprelu",
        hook_in=hooks[0],
        hook_out=hooks[1],
        model=model,
        dtype=tensors.dtype("threshold"),
    )
    name = "/".join(
        part for part in file.parent.absolute().parts[-3:] if re.match(r"layer|width|average|l0|embed", part)
    )
    return Found(Dictionary(config, **parts.tensors()), name or file.parent.name, format)
