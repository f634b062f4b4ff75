"""dictionary_learning: ``ae.pt``, a state dict, beside a ``config.json`` that names its class."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.formats.found import Found, Parts, hook_points, transcodes
from engine.dictionaries.formats.stored import (
    StoredTensors,
    read_json,
    read_pt,
    require_memory,
    unknown,
    whole,
    words,
)

CONFIG, WEIGHTS = "config.json", "ae.pt"
# Their class, and our architecture and activation.
CLASSES = {
    "AutoEncoder": ("relu", "relu"),
    "AutoEncoderNew": ("relu", "relu"),
    "GatedAutoEncoder": ("gated", "gated"),
    "JumpReluAutoEncoder": ("jumprelu", "jumprelu"),
    "AutoEncoderTopK": ("topk", "topk"),
    "BatchTopKSAE": ("batchtopk", "batchtopk"),
    "MatryoshkaBatchTopKSAE": ("matryoshka", "batchtopk"),
}
NOT_CENTRED = ("AutoEncoderNew", "JumpReluAutoEncoder")
TRAINERS = {
    "AutoEncoder": "StandardTrainer",
    "AutoEncoderNew": "StandardTrainerAprilUpdate",
    "GatedAutoEncoder": "GatedSAETrainer",
    "JumpReluAutoEncoder": "JumpReluTrainer",
    "AutoEncoderTopK": "TopKTrainer",
    "BatchTopKSAE": "BatchTopKTrainer",
}


def read(file: Path) -> Found:
    """The dictionary whose weights are in ``file``. Raises `DictionaryError`."""
    folder = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    config_file = folder / CONFIG
    values = read_json(config_file)
    trainer = values.get("trainer")
    if not isinstance(trainer, dict):
        raise DictionaryError(f"{config_file} has no trainer, so it is not one of dictionary_learning's configs.")
    kind = words(trainer, "dict_class")
    if kind not in CLASSES:
        raise unknown("dict_class", kind, CLASSES, config_file)
    tensors = read_pt(file)
    require_memory(tensors)
    parts, facts = _parts(tensors, kind)
    architecture, activation = CLASSES[kind]
    module = words(trainer, "submodule_name")
    layer = trainer.get("layer")
    hook = hook_points(module)[0] if module else f"blocks.{layer}.hook_resid_post" if isinstance(layer, int) else ""
    (d_in, width), d_out = parts.W_enc.shape, parts.W_dec.shape[1]
    config = DictionaryConfig(
        architecture=architecture,
        d_in=d_in,
        d_out=d_out,
        width=width,
        k=_k(tensors, trainer, config_file) if activation in ("topk", "batchtopk") else None,
        centre=kind not in NOT_CENTRED,
        activation=activation,
        hook_in=hook,
        hook_out=hook,
        model=words(trainer, "lm_name"),
    )
    facts = {"dict_class": kind, "module": module or f"layer {layer}"} | facts
    return Found(Dictionary(config, **parts.tensors()), folder.name, "dictionary_learning", facts)


def files_of(dictionary: Dictionary) -> dict[str, bytes]:
    """Content by name of the files of ``dictionary``, as the class that computes the same.

    Raises:
        DictionaryError: dictionary_learning has no such class.
    """
    config, kind = dictionary.config, _written_as(dictionary)
    parts = Parts.of(dictionary).centring(dictionary, kind not in NOT_CENTRED)
    state = _state(parts, kind)
    if kind in ("AutoEncoderTopK", "BatchTopKSAE"):
        calibrated = dictionary.threshold is not None and dictionary.calibrated
        threshold = float(dictionary.threshold[0]) if calibrated and dictionary.threshold is not None else -1.0
        # Its reader wants a k even where the threshold alone decides.
        state |= {"k": torch.tensor(config.k or 1, dtype=torch.int32), "threshold": torch.tensor(threshold)}
    layer = re.search(r"blocks\.(\d+)\.", config.hook_in)
    trainer: dict[str, Any] = {
        "trainer_class": TRAINERS[kind],
        "dict_class": kind,
        "activation_dim": config.d_in,
        "dict_size": config.width,
        "layer": int(layer[1]) if layer else 0,
        "lm_name": config.model,
        "submodule_name": config.hook_in,
    }
    if "k" in state:
        trainer["k"] = int(state["k"])
    buffer = {"d_submodule": config.d_in, "io": "out"}
    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, content)
    return {CONFIG: json.dumps({"trainer": trainer, "buffer": buffer}, indent=1).encode(), WEIGHTS: content.getvalue()}


def _written_as(dictionary: Dictionary) -> str:
    """Their class for what ``dictionary`` computes. Raises `DictionaryError`: there is none."""
    config = dictionary.config
    if transcodes(dictionary):
        raise DictionaryError("dictionary_learning has no transcoders; write it as saelens or sparsify.")
    if config.normalise != "none":
        raise DictionaryError(
            f"dictionary_learning cannot normalise each activation ({config.normalise}); write it as saelens."
        )
    if config.activation == "relu":
        # Its reader makes the atoms of an AutoEncoder as long as one, which would change the latents.
        lengths = dictionary.W_dec.norm(dim=1)
        return "AutoEncoder" if config.centre and _all_ones(lengths) else "AutoEncoderNew"
    if config.activation == "batchtopk":
        threshold = dictionary.threshold
        if dictionary.calibrated and threshold is not None and not bool((threshold == threshold[0]).all()):
            return "JumpReluAutoEncoder"  # a BatchTopKSAE has one threshold for all latents
        return "BatchTopKSAE"
    return {"topk": "AutoEncoderTopK", "jumprelu": "JumpReluAutoEncoder", "gated": "GatedAutoEncoder"}[
        config.activation
    ]


def _state(parts: Parts, kind: str) -> dict[str, torch.Tensor]:
    """The state dict of their class, but for k and threshold of the TopK family."""
    if kind == "JumpReluAutoEncoder":
        assert parts.threshold is not None
        return {name: getattr(parts, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")}
    state = {"encoder.weight": parts.W_enc.t(), "decoder.weight": parts.W_dec.t()}
    if kind == "GatedAutoEncoder":
        assert parts.r_mag is not None
        assert parts.b_mag is not None
        gate = {"r_mag": parts.r_mag, "gate_bias": parts.b_enc, "mag_bias": parts.b_mag}
        return state | gate | {"decoder_bias": parts.b_dec}
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(kind, "b_dec")
    return state | {"encoder.bias": parts.b_enc, bias: parts.b_dec}


def _parts(tensors: StoredTensors, kind: str) -> tuple[Parts, dict[str, Any]]:
    facts: dict[str, Any] = {}
    if kind in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        d_in, width = tensors.matrix("W_enc")
        d_out = tensors.matrix("W_dec")[1]
        parts = Parts(
            tensors.take("W_enc", d_in, width),
            tensors.take("W_dec", width, d_out),
            tensors.take("b_enc", width),
            tensors.take("b_dec", d_out),
        )
    else:
        width, d_in = tensors.matrix("encoder.weight")
        d_out = tensors.matrix("decoder.weight")[0]
        biases = {
            "AutoEncoder": ("encoder.bias", "bias"),
            "AutoEncoderNew": ("encoder.bias", "decoder.bias"),
            "GatedAutoEncoder": ("gate_bias", "decoder_bias"),
        }.get(kind, ("encoder.bias", "b_dec"))
        parts = Parts(
            tensors.take("encoder.weight", width, d_in).t().contiguous(),
            tensors.take("decoder.weight", d_out, width).t().contiguous(),
            tensors.take(biases[0], width),
            tensors.take(biases[1], d_out),
        )
    if kind == "JumpReluAutoEncoder":
        parts = replace(parts, threshold=tensors.take("threshold", width))
    if kind == "GatedAutoEncoder":
        parts = replace(parts, r_mag=tensors.take("r_mag", width), b_mag=tensors.take("mag_bias", width))
    if CLASSES[kind][1] == "batchtopk":
        threshold = tensors.number("threshold")
        parts = replace(parts, threshold=torch.full((width,), threshold))
        if threshold < 0:
            facts["note"] = (
                "Its threshold was never estimated, so the k·n largest latents of the n activations given together "
                "are taken."
            )
    lengths = parts.W_dec.norm(dim=1)
    if kind == "AutoEncoder" and not _all_ones(lengths):
        # Its own reader does so, so latents are counted in the same units there and here.
        parts = parts.scaled_latents(lengths.clamp_min(1e-8))
        facts["renormalised"] = True
    if "group_sizes" in tensors:
        groups = tensors.take("group_sizes", tensors.vector("group_sizes"))
        facts["group_sizes"] = [int(size) for size in groups]
    return parts, facts


def _k(tensors: StoredTensors, trainer: dict[str, Any], file: Path) -> int:
    return int(tensors.number("k")) if "k" in tensors else whole(trainer, "k", file)


def _all_ones(lengths: torch.Tensor) -> bool:
    return torch.allclose(lengths, torch.ones_like(lengths))
