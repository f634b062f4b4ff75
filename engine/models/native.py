"""Native toy transformers: built from a config, stored as attributes and named float32 arrays.

A toy model is a thing in the session's section "models": its attributes are `native_attributes`,
its arrays the weights under their TransformerLens names (``blocks.0.attn.q.weight``). The demo
model in ``resources/demo`` is the same in two files, ``model.json`` and ``model.safetensors``.
Nothing is pickled, and a file is checked against its own config before anything is allocated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge.bridge import TransformerBridge
from transformer_lens.model_bridge.sources.native import NativeModel, boot
from transformers import PreTrainedTokenizerFast

from engine import files, places
from engine.models.errors import ModelError

Array: TypeAlias = npt.NDArray[Any]

START, END, UNKNOWN = "<start>", "<end>", "<unk>"
SPECIAL = (START, END, UNKNOWN)
KIND = "native"
JSON_NAME, WEIGHTS_NAME = "model.json", "model.safetensors"

# NativeModel's own names to those of TransformerLens, which files and sessions use.
_RENAMED = {
    "tok_embed": "embed",
    "pos": "pos_embed",
    "layers": "blocks",
    "fc_in": "in",
    "fc_out": "out",
    "ln_out": "ln_final",
    "head": "unembed",
}


class NativeConfig(BaseModel):
    """The shape of a native transformer, in TransformerLens' names; what may be read from a file.

    Attributes:
        d_model, d_head, d_mlp: widths of the residual stream, of a head and of the MLP's hidden layer.
        n_layers, n_heads, n_ctx: numbers of blocks, of heads in each, and of positions in a context.
        d_vocab: tokens in the vocabulary.
        seed: of the initial weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    d_model: int = Field(ge=1, le=8192)
    n_layers: int = Field(ge=1, le=64)
    n_heads: int = Field(ge=1, le=256)
    d_head: int = Field(ge=1, le=1024)
    d_mlp: int = Field(default=1, ge=1, le=65536)
    n_ctx: int = Field(ge=2, le=4096)
    d_vocab: int = Field(ge=1, le=262_144)
    act_fn: Literal["relu", "gelu", "gelu_new", "silu"] = "gelu_new"
    normalization_type: Literal["LN", "LNPre", "RMS", "RMSPre"] | None = "LN"
    positional_embedding_type: Literal["standard", "rotary"] = "standard"
    attn_only: bool = False
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _rotary_is_even(self) -> NativeConfig:
        if self.positional_embedding_type == "rotary" and self.d_head % 2:
            raise ValueError("rotary positions need an even d_head")
        return self


def check_config(config: Mapping[str, Any]) -> NativeConfig:
    """Read a config.

    Raises:
        ModelError: a value is missing, unknown or out of bounds; the sentence names it.
    """
    try:
        return NativeConfig.model_validate(dict(config))
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "the config"
        message = str(first["msg"]).removeprefix("Value error, ")
        reason = message[0].lower() + message[1:]
        raise ModelError(f"This toy model's config is wrong at {name}: {reason}; train the model again.") from None


def word_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word, ids in the order of ``vocabulary``.

    Text is split at spaces and around punctuation, and lower-cased where the vocabulary is lower
    case. ``<start>`` is put in front by default, as models' tokenizers with a BOS do; words that are
    not in the vocabulary become ``<unk>``; ``<end>`` serves as end and as padding.

    Raises:
        ModelError: a special token is missing, a word appears twice, or a word is split by the rule above.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = list(vocabulary)
    missing = [token for token in SPECIAL if token not in words]
    if missing:
        raise ModelError(f"A toy model's vocabulary needs the token {missing[0]}; add it.")
    if len(set(words)) != len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise ModelError(f"The word “{twice}” is twice in the toy model's vocabulary; remove one.")
    ids = {word: number for number, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    if all(word == word.lower() for word in words):
        inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, ids[START])])
    found = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        bos_token=START,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=END,
        clean_up_tokenization_spaces=False,
        # TransformerLens reloads a tokenizer by name unless it is told that it prepends its BOS.
        add_bos_token=True,
        name_or_path=KIND,
    )
    for word in words:
        if found.encode(word, add_special_tokens=False) != [ids[word]]:
            raise ModelError(f"“{word}” cannot be one token of a toy model, since text is split at it; rename it.")
    return found


def build_native(
    config: Mapping[str, Any],
    vocabulary: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TransformerBridge:
    """A freshly initialised toy transformer; the global random state is neither used nor changed.

    Args:
        config: as `NativeConfig` describes it.
        vocabulary: one word per token id, with `SPECIAL` among them; ``d_vocab`` words.

    Raises:
        ModelError: the config or the vocabulary does not hold together.
    """
    checked = check_config(config)
    if len(vocabulary) != checked.d_vocab:
        raise ModelError(
            f"This toy model's vocabulary has {len(vocabulary)} words but its config says d_vocab={checked.d_vocab}; "
            "train the model again."
        )
    return boot(checked.model_dump(), tokenizer=word_tokenizer(vocabulary), device=device, dtype=dtype, model_name=KIND)


def weight_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every trained weight of such a model, found without allocating one."""
    resolved = TransformerBridgeConfig.from_dict(check_config(config).model_dump())
    with torch.device("meta"):
        model = NativeModel(resolved)
    return {_tl_name(name): tuple(weight.shape) for name, weight in model.named_parameters()}


def _tl_name(name: str) -> str:
    parts = (part for part in name.split(".") if part != "_original_component")
    return ".".join(_RENAMED.get(part, part) for part in parts)


def native_attributes(config: Mapping[str, Any], vocabulary: Sequence[str], *, reference: str = "") -> dict[str, Any]:
    """The JSON part of a stored toy model: kind, config, vocabulary, and how to refer to it (``toy:RUN``)."""
    checked = check_config(config).model_dump()
    return {"kind": KIND, "reference": reference, "config": checked, "vocabulary": [str(word) for word in vocabulary]}


def weights(bridge: TransformerBridge) -> dict[str, Array]:
    """Copies of the model's trained weights as float32 arrays, by TransformerLens name."""
    return {
        _tl_name(name): weight.detach().to("cpu", torch.float32).numpy().copy()
        for name, weight in bridge.original_model.named_parameters()
    }


def save_native(bridge: TransformerBridge, *, reference: str = "") -> tuple[dict[str, Any], dict[str, Array]]:
    """What to store of a toy model: its attributes and its arrays; `load_native` reads them."""
    config = {name: getattr(bridge.cfg, name) for name in NativeConfig.model_fields}
    by_id = sorted(bridge.tokenizer.get_vocab().items(), key=lambda item: item[1])
    return native_attributes(config, [word for word, _ in by_id], reference=reference), weights(bridge)


def load_native(
    attributes: Mapping[str, Any],
    arrays: Mapping[str, Array],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TransformerBridge:
    """The toy model that `save_native` stored, in evaluation mode.

    Raises:
        ModelError: it is no toy model, its config does not hold together, or an array is missing, unknown,
            wrongly shaped or not finite; the sentence names it.
    """
    if attributes.get("kind") != KIND or not isinstance(attributes.get("config"), Mapping):
        raise ModelError("These are not the attributes of a toy model; choose a model trained in this session.")
    config, vocabulary = attributes["config"], attributes.get("vocabulary")
    if not isinstance(vocabulary, Sequence) or not all(isinstance(word, str) for word in vocabulary):
        raise ModelError("This toy model has no list of words as its vocabulary; train it again.")
    shapes = weight_shapes(config)
    for name, shape in shapes.items():
        if name not in arrays:
            raise ModelError(f"The weight {name} of this toy model is missing; train the model again.")
        found = arrays[name]
        if tuple(found.shape) != shape:
            raise ModelError(
                f"The weight {name} of this toy model has shape {tuple(found.shape)} instead of {shape}; "
                "train the model again."
            )
        if found.dtype.kind != "f" or not np.isfinite(found).all():
            raise ModelError(f"The weight {name} of this toy model holds values that are no finite numbers.")
    unknown = sorted(set(arrays) - set(shapes))
    if unknown:
        raise ModelError(f"This toy model has a weight {unknown[0]} that its config knows nothing of; train it again.")
    bridge = build_native(config, vocabulary, device=device, dtype=dtype)
    with torch.no_grad():
        for name, weight in bridge.original_model.named_parameters():
            weight.copy_(torch.from_numpy(np.array(arrays[_tl_name(name)], dtype=np.float32)))
    bridge.eval()
    return bridge


def demo_folder() -> Path:
    """Where the demo model lies."""
    return places.resources() / "demo"


def write_native(folder: Path, attributes: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a toy model as ``model.json`` and ``model.safetensors``. Raises `DiskError`."""
    plain = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in sorted(arrays.items())}
    files.write_bytes(folder / WEIGHTS_NAME, safetensors.numpy.save(plain))
    files.write_bytes(folder / JSON_NAME, json.dumps(attributes, ensure_ascii=False, indent=1).encode() + b"\n")


def read_native(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Attributes and arrays of the toy model in ``folder``.

    Raises:
        ModelError: a file is missing, cut short or not what its name says.
    """
    try:
        attributes = json.loads((folder / JSON_NAME).read_bytes())
        arrays = safetensors.numpy.load((folder / WEIGHTS_NAME).read_bytes())
    except FileNotFoundError as problem:
        name = Path(str(problem.filename)).name
        raise ModelError(f"The model in {folder} has no file {name}; `make demo` builds the demo model.") from problem
    except (ValueError, safetensors.SafetensorError) as problem:
        raise ModelError(
            f"The model in {folder} is damaged ({problem}); `make demo` rebuilds the demo model."
        ) from None
    if not isinstance(attributes, dict):
        raise ModelError(f"{folder / JSON_NAME} does not describe a model; `make demo` rebuilds the demo model.")
    return attributes, arrays


def load_demo(*, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> TransformerBridge:
    """The demo model that ships with the program. Raises `ModelError` when its files are missing or damaged."""
    attributes, arrays = read_native(demo_folder())
    return load_native(attributes, arrays, device=device, dtype=dtype)
