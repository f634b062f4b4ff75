"""SAELens: ``cfg.json`` beside ``sae_weights.safetensors``, version 6 and the flat layout before it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.formats.found import Found, Parts, transcodes
from engine.dictionaries.formats.stored import (
    StoredTensors,
    read_json,
    read_safetensors,
    require_memory,
    unknown,
    whole,
    words,
)

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
LAYOUT = "6.0.0"  # the SAELens version whose layout is written
# Activation and what SAELens calls it; those of transcoders are prefixed.
ACTIVATIONS = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "batchtopk",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
NORMALISE = {
    "none": "none",
    "expected_average_only_in": "none",
    "covariance_whitening": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm",
}
UNSCALED = (
    "It was trained on activations scaled to a mean length of √d_in, and the scale is not stored with it; "
    "it is read as it is, as SAELens does."
)


def read(file: Path) -> Found:
    """The dictionary whose weights are in ``file``. Raises `DictionaryError`."""
    config_file = file.with_name(CONFIG)
    config = _config(config_file)
    kind = words(config, "architecture")
    if kind not in ACTIVATIONS:
        raise unknown("architecture", kind, ACTIVATIONS, config_file)
    tensors = read_safetensors(file)
    require_memory(tensors)
    transcoder = "transcoder" in kind
    d_in = whole(config, "d_in", config_file)
    width = whole(config, "d_sae", config_file)
    d_out = whole(config, "d_out", config_file) if transcoder else d_in
    centre = bool(config.get("apply_b_dec_to_input", True))
    if transcoder and centre:
        raise DictionaryError(
            f"{config_file} has apply_b_dec_to_input = true, which makes no sense for a transcoder; set it to false."
        )
    normalisation = words(config, "normalize_activations") or "none"
    if normalisation not in NORMALISE:
        raise unknown("normalize_activations", normalisation, NORMALISE, config_file)
    if transcoder and NORMALISE[normalisation] != "none":
        raise DictionaryError(
            f"{config_file} normalises what a transcoder reads ({normalisation}) and not what it writes, "
            "which Superscope cannot compute."
        )
    parts, facts = _parts(tensors, kind, d_in, d_out, width, config), _facts(config)
    parts = _unnormalised(parts, config, file, centre, facts)
    metadata = config.get("metadata") or {}
    hook = words(metadata, "hook_name")
    k = whole(config, "k", config_file) if ACTIVATIONS[kind] in ("topk", "batchtopk") else None
    neutral = DictionaryConfig(
        architecture=_architecture(kind, words(metadata, "training_architecture")),
        d_in=d_in,
        d_out=d_out,
        width=width,
        k=k,
        centre=centre,
        activation=ACTIVATIONS[kind],
        hook_in=hook,
        hook_out=words(metadata, "hook_name_out") or hook,
        model=words(metadata, "model_name"),
        dtype=tensors.dtype("W_dec"),
        normalise=NORMALISE[normalisation],
    )
    return Found(Dictionary(neutral, **parts.tensors()), hook or file.parent.name, "saelens", facts)


def files_of(dictionary: Dictionary) -> dict[str, bytes]:
    """Content by name of the files of ``dictionary`` in the layout of version 6.

    Raises:
        DictionaryError: SAELens has no such dictionary.
    """
    from safetensors.torch import save

    config, kind = dictionary.config, _written_as(dictionary)
    tensors = dict(dictionary.tensors())
    if kind == "gated":
        tensors["b_gate"] = tensors.pop("b_enc")
    if dictionary.W_skip is not None:
        tensors["W_skip"] = dictionary.W_skip.t()
    normalise = {ours: theirs for theirs, ours in NORMALISE.items() if ours != "none"} | {"none": "none"}
    values: dict[str, Any] = {
        "architecture": kind,
        "d_in": config.d_in,
        "d_sae": config.width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": config.centre,
        "normalize_activations": normalise[config.normalise],
        "reshape_activations": "hook_z" if config.hook_in.endswith(".hook_z") else "none",
        "metadata": {
            "sae_lens_version": LAYOUT,
            "model_name": config.model,
            "hook_name": config.hook_in,
            "training_architecture": config.architecture,
        },
    }
    if kind == "topk":
        values |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    if "transcoder" in kind:
        values["d_out"] = config.d_out
        values["metadata"]["hook_name_out"] = config.hook_out
    contiguous = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    return {CONFIG: json.dumps(values, indent=1).encode(), WEIGHTS: save(contiguous)}


def _written_as(dictionary: Dictionary) -> str:
    """SAELens' name for what ``dictionary`` computes. Raises `DictionaryError`: it has none."""
    config = dictionary.config
    if config.activation == "batchtopk" and not dictionary.calibrated:
        raise DictionaryError(
            "This dictionary has no threshold yet, and SAELens stores BatchTopK by its threshold; train it longer."
        )
    activation = "jumprelu" if config.activation == "batchtopk" else config.activation
    if not transcodes(dictionary):
        return "standard" if activation == "relu" else activation
    if activation not in ("relu", "jumprelu"):
        raise DictionaryError(
            f"SAELens has no transcoder with the activation {activation}; it has relu and jumprelu. "
            + ("Write it as sparsify." if activation == "topk" else "Choose another format.")
        )
    if config.centre or config.normalise != "none":
        raise DictionaryError("SAELens has no transcoder that centres or normalises what it reads.")
    name = "transcoder" if dictionary.W_skip is None else "skip_transcoder"
    return name if activation == "relu" else f"jumprelu_{name}"


def _config(file: Path) -> dict[str, Any]:
    """The config as version 6 writes it."""
    values = read_json(file)
    metadata = values.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    version = words(values, "sae_lens_version") or words(metadata, "sae_lens_version")
    major = re.match(r"(\d+)\.", version)
    if major is not None and int(major[1]) >= 6:
        return values | {"metadata": metadata}
    flat = dict(values)
    hook = words(flat, "hook_name") or words(flat, "hook_point")
    flat["metadata"] = {"model_name": words(flat, "model_name"), "hook_name": hook, "sae_lens_version": version}
    head = flat.get("hook_head_index", flat.get("hook_point_head_index"))
    flat["metadata"]["hook_head_index"] = head
    flat.setdefault("architecture", "standard")
    flat.setdefault("reshape_activations", "hook_z" if "hook_z" in hook else "none")
    activation = words(flat, "activation_fn_str") or words(flat, "activation_fn") or "relu"
    options = flat.get("activation_fn_kwargs")
    if activation == "topk":
        flat |= {"architecture": "topk", "k": options.get("k") if isinstance(options, dict) else None}
    elif activation not in ("relu", ""):
        raise unknown("activation_fn_str", activation, ("relu", "topk"), file)
    if isinstance(flat.get("normalize_activations"), bool):
        flat["normalize_activations"] = "expected_average_only_in" if flat["normalize_activations"] else "none"
    return flat


def _parts(tensors: StoredTensors, kind: str, d_in: int, d_out: int, width: int, config: Mapping[str, Any]) -> Parts:
    parts = Parts(
        W_enc=tensors.take("W_enc", d_in, width),
        W_dec=tensors.take("W_dec", width, d_out),
        b_enc=tensors.take("b_gate" if kind == "gated" else "b_enc", width),
        b_dec=tensors.take("b_dec", d_out),
    )
    if kind == "gated":
        parts = replace(parts, r_mag=tensors.take("r_mag", width), b_mag=tensors.take("b_mag", width))
    if "jumprelu" in kind:
        logarithm = "threshold" not in tensors and "log_threshold" in tensors
        threshold = tensors.take("log_threshold", width).exp() if logarithm else tensors.take("threshold", width)
        parts = replace(parts, threshold=threshold)
    if ACTIVATIONS[kind] == "batchtopk":  # a checkpoint of its training; the finished file is a jumprelu
        parts = replace(parts, threshold=torch.full((width,), tensors.number("topk_threshold")))
    if "skip" in kind:
        parts = replace(parts, W_skip=tensors.take("W_skip", d_out, d_in).t().contiguous())
    if "scaling_factor" in tensors:
        parts = _finetuned(parts, tensors, width, config)
    return parts


def _finetuned(parts: Parts, tensors: StoredTensors, width: int, config: Mapping[str, Any]) -> Parts:
    """With the factors that older versions multiplied latents by before decoding."""
    factor = tensors.take("scaling_factor", width)
    if torch.allclose(factor, torch.ones_like(factor)):
        return parts
    if not config.get("finetuning_scaling_factor"):
        raise DictionaryError(
            f"{tensors.file} has a scaling_factor, but its config does not say that it is used; "
            "set finetuning_scaling_factor there."
        )
    return replace(parts, W_dec=parts.W_dec * factor[:, None])


def _unnormalised(parts: Parts, config: Mapping[str, Any], file: Path, centre: bool, facts: dict[str, Any]) -> Parts:
    """For raw activations, with what a checkpoint keeps beside its weights folded in, in SAELens' own order."""
    normalisation = words(config, "normalize_activations") or "none"
    rescaled = bool(config.get("rescale_acts_by_decoder_norm"))
    scaler = file.with_name("activation_scaler.json")
    scale = read_json(scaler).get("scaling_factor") if scaler.is_file() else None
    if normalisation == "expected_average_only_in":
        if isinstance(scale, (int, float)) and scale > 0:
            parts = parts.for_raw(float(scale))
            facts["scale"] = float(scale)
            if rescaled and parts.threshold is not None:  # it counts in units of the atoms' lengths, just divided
                parts = replace(parts, threshold=parts.threshold / float(scale))
        else:
            facts["note"] = UNSCALED
    if rescaled:
        # Pre-activations are multiplied by the atoms' lengths before the choice, and a threshold holds after that.
        threshold = parts.threshold
        parts = replace(parts.scaled_latents(parts.W_dec.norm(dim=1).clamp_min(1e-8)), threshold=threshold)
        facts["rescaled"] = True
    return _unwhitened(parts, file, centre) if normalisation == "covariance_whitening" else parts


def _unwhitened(parts: Parts, file: Path, centre: bool) -> Parts:
    """For raw x what reads (x − mean) @ matrix and whose output is mapped back by the inverse."""
    stored = file.with_name("activation_whitening.safetensors")
    if not stored.is_file():
        raise DictionaryError(
            f"{file.parent} was trained on whitened activations, but {stored.name} is not there; "
            "get the whole checkpoint."
        )
    tensors = read_safetensors(stored)
    d_in, d_out = parts.W_enc.shape[0], parts.W_dec.shape[1]
    mean = tensors.take("mean", d_in)
    matrix = tensors.take("matrix", d_in, d_in)
    inverse = tensors.take("inverse_matrix", d_out, d_out)
    folded = replace(parts, W_enc=matrix @ parts.W_enc, W_dec=parts.W_dec @ inverse, b_dec=parts.b_dec @ inverse + mean)
    return folded if centre else folded.shifted(-mean)


def _architecture(kind: str, trained_as: str) -> str:
    """Our name of how it was trained, from SAELens' names of what it is and was."""
    if "transcoder" in kind:
        return "skip-transcoder" if "skip" in kind else "transcoder"
    names = {"standard": "relu", "batchtopk": "batchtopk", "matryoshka_batchtopk": "matryoshka"}
    own = {"matryoshka": "matryoshka", "batchtopk": "batchtopk"}
    return names.get(trained_as) or own.get(trained_as) or names.get(kind, kind)


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    metadata = config.get("metadata") or {}
    wanted = ("sae_lens_version", "dataset_path", "context_size", "prepend_bos", "hook_head_index", "neuronpedia_id")
    facts = {name: metadata[name] for name in wanted if isinstance(metadata.get(name), (str, int, float, bool))}
    if config.get("reshape_activations", "none") != "none":
        facts["reshape_activations"] = config["reshape_activations"]
    return facts
