"""Open a model by reference: fetch, check, load, keep it open for whoever asks next."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformer_lens.model_bridge.bridge import TransformerBridge

from engine.models import memory
from engine.models.convert import converted
from engine.models.errors import ModelError
from engine.models.facts import ModelFacts, facts_of, hash_of, of_toy
from engine.models.folder import ModelFolder, inspect, stamp
from engine.models.hooks import HookPoint, canonical_names, list_hook_points, unknown_hook
from engine.models.plain import PlainForward
from engine.models.references import Reference, parse
from engine.models.smollm2 import smollm2
from engine.models.toys import Planted, content_hash, load_toy, network_weights, planted, stored

if TYPE_CHECKING:
    from engine.models.prompt_pass import PromptPass
    from engine.runs.run import Run

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KEPT_SHARE = 0.5  # of the machine's memory that models which nobody uses any more may hold


@dataclass(eq=False)
class OpenModel:
    """A model that is ready to run.

    Attributes:
        reference: as it was asked for.
        bridge: TransformerLens' model, in evaluation mode.
        tokenizer: its tokenizer; `encode` is the way to ids.
        facts: the model card.
        planted: by hook point the names and directions (features, width) of what was planted in a toy.
        lock: held during a forward pass that has hooks; jobs and looks run on different threads. Nobody waits
            for a person inside it.
        passes: the last prompts' activations, by ids.
        texts: the last texts that it wrote without steering, as `engine.steering.generation` keeps them.
    """

    reference: str
    bridge: TransformerBridge
    tokenizer: Any
    facts: ModelFacts
    planted: dict[str, Planted] = field(default_factory=dict, repr=False)
    lock: Any = field(default_factory=threading.RLock, repr=False)
    passes: OrderedDict[tuple[int, ...], PromptPass] = field(default_factory=OrderedDict, repr=False)
    texts: OrderedDict[Any, Any] = field(default_factory=OrderedDict, repr=False)

    @property
    def device(self) -> torch.device:
        return torch.device(self.facts.device)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.facts.dtype]

    @cached_property
    def _points(self) -> list[HookPoint]:
        with self.lock:
            return list_hook_points(self.bridge)

    @cached_property
    def _by_name(self) -> dict[str, HookPoint]:
        by_canonical = {point.canonical: point for point in self._points}
        names = canonical_names(self.bridge)
        return {name: by_canonical[canonical] for name, canonical in names.items() if canonical in by_canonical}

    @cached_property
    def plain(self) -> PlainForward | None:
        """The model without TransformerLens around it, sharing its weights; None where it cannot be had."""
        return PlainForward.of(self.bridge)

    def hook_points(self) -> list[HookPoint]:
        """All hook points that fire in a forward pass, in its order."""
        return self._points

    def hook_point(self, name: str) -> HookPoint:
        """The hook point called ``name``, by its familiar or its canonical name.

        Raises:
            ModelError: there is none; the sentence gives the nearest names.
        """
        point = self._by_name.get(name)
        if point is None:
            raise unknown_hook(name, self._points)
        return point

    def check_hook(self, name: str) -> int:
        """Values per token at the hook point ``name``, heads flattened.

        Raises:
            ModelError: there is no such hook point, or it has no vector per token (attention patterns).
        """
        point = self.hook_point(name)
        if not point.width:
            raise ModelError(f"{name} has shape {point.shape}, not a vector per token; choose another hook point.")
        return point.width

    @property
    def bos(self) -> int | None:
        """Id of the beginning-of-sequence token, None where the model has none."""
        token = self.tokenizer.bos_token_id
        return int(token) if token is not None and token < self.facts.vocabulary else None

    def encode(self, text: str, *, prepend_bos: bool = True) -> list[int]:
        """Token ids of ``text``, after the BOS token where that is wanted and there is one."""
        ids = [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]
        return [self.bos, *ids] if prepend_bos and self.bos is not None else ids

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """Each token as text, with its leading space."""
        return [str(self.tokenizer.decode([int(token)], clean_up_tokenization_spaces=False)) for token in ids]


_Key = tuple[str, str, str, str]
_opened: OrderedDict[_Key, OpenModel] = OrderedDict()
_guard = threading.Lock()
_opening: dict[_Key, threading.Lock] = {}


def open_model(
    reference: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    run: Run | None = None,
    work: Path | None = None,
) -> OpenModel:
    """Open a model, or give the one that this process has open already.

    Args:
        reference: see `engine.models.references`.
        device: auto, cpu, cuda, cuda:N or mps.
        dtype: number format of weights and activations.
        run: hears of the stages and can be stopped between them.
        work: the session's work folder, where ``toy:RUN`` is looked up; ``run.work`` where there is a run.

    Raises:
        ModelError: it cannot be found, fetched, understood, or does not fit into memory.
        DiskError: there is no room for a converted copy.
    """
    if dtype not in DTYPES:
        raise ModelError(f"{dtype} is no number format for a model; use {', '.join(DTYPES)}.")
    parsed = parse(reference)
    place = choose_device(device)
    work = work if work is not None or run is None else run.work
    source = _Source.of(parsed, dtype, run, work)
    key = (parsed.text, place, dtype, source.stamp)
    with _guard:
        lock = _opening.setdefault(key, threading.Lock())
    while not lock.acquire(timeout=0.1):  # another thread opens it right now
        if run is not None:
            run.point()
    try:
        with _guard:
            if key in _opened:
                _opened.move_to_end(key)
                return _opened[key]
        _make_room(source, place, dtype)
        if run is not None:
            run.stage(f"Opening {parsed.title}")
            if place == "cpu" and dtype != "float32":
                run.say(f"{dtype} is slow on most processors; float32 is the fast choice on a CPU.", "warning")
        opened = _open(parsed, source, place, dtype)
        with _guard:
            _opened[key] = opened
        return opened
    finally:
        lock.release()


def close_models() -> int:
    """Let go of all models that this process keeps open; memory is freed once nobody uses them. Their number."""
    with _guard:
        count = len(_opened)
        _opened.clear()
    _collect()
    return count


def open_models() -> list[OpenModel]:
    """The models this process keeps open, least recently asked for first."""
    with _guard:
        return list(_opened.values())


def choose_device(device: str) -> str:
    """``cpu``, ``cuda:N`` or ``mps`` for what was asked for; auto takes a GPU where there is one.

    Raises:
        ModelError: the device is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cpu":
        return device
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise ModelError("There is no Apple GPU here for device mps; use auto or cpu.")
        return device
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise ModelError(f"{device} is no device; use auto, cpu, cuda, cuda:N or mps.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise ModelError(f"There is no CUDA device {int(number or 0)} here ({count} found); use auto or cpu.")
    return f"cuda:{int(number or 0)}"


@dataclass(frozen=True)
class _Source:
    """Where the weights come from, looked at but not loaded. ``stamp`` changes whenever the weights do."""

    parameters: int
    stamp: str
    text: str
    folder: ModelFolder | None = None
    toy: tuple[dict[str, Any], dict[str, Any]] | None = None
    planted: dict[str, Planted] = field(default_factory=dict)

    @classmethod
    def of(cls, reference: Reference, dtype: str, run: Run | None, work: Path | None) -> _Source:
        if reference.kind in ("demo", "toy"):
            attributes, arrays = stored(reference, work)
            weights = network_weights(arrays)
            parameters = sum(int(array.size) for array in weights.values())
            toy = (attributes, weights)
            return cls(parameters, content_hash(arrays), reference.text, toy=toy, planted=planted(attributes, arrays))
        if reference.kind == "smollm2":
            path = smollm2(run)
        elif reference.kind == "gguf":
            path = converted(reference, run)
        elif reference.kind == "hub":
            from engine.models.hub import downloaded

            path = downloaded(reference.value, run, dtype=dtype)
        else:
            path = Path(reference.value).absolute()
        folder = inspect(path)
        return cls(folder.parameters, stamp(folder), str(path), folder=folder)


def _open(reference: Reference, source: _Source, device: str, dtype: str) -> OpenModel:
    if source.toy is not None:
        bridge, content = load_toy(*source.toy, device=device, dtype=DTYPES[dtype]), source.stamp
    else:
        assert source.folder is not None
        bridge, content = _boot(source.folder, device, dtype), hash_of(source.folder, reference)
    bridge.eval()
    facts = facts_of(bridge, reference, device=device, dtype=dtype, source=source.text, source_hash=content)
    if source.toy is not None:
        own = of_toy(source.toy[0])
        facts = replace(facts, text=own.get("text", ""), example=own.get("example", ""))
    return OpenModel(reference.text, bridge, bridge.tokenizer, facts, source.planted)


def _boot(folder: ModelFolder, device: str, dtype: str) -> TransformerBridge:
    from transformer_lens.model_bridge.sources.transformers import boot

    from engine.models.quiet import quiet

    name = folder.path.name
    try:
        with quiet():
            bridge = boot(str(folder.path), device=device, dtype=DTYPES[dtype], trust_remote_code=False)
    except (torch.OutOfMemoryError, MemoryError) as problem:
        gc.collect()
        raise ModelError(
            f"Memory ran out while {name} was loaded on {device}; use a smaller model or dtype bfloat16."
        ) from problem
    except Exception as problem:
        # transformers and TransformerLens raise anything from KeyError to ImportError for what they cannot load.
        architecture = (folder.config.get("architectures") or [folder.config.get("model_type", "unknown")])[0]
        raise ModelError(
            f"{name} cannot be opened (architecture {architecture}): {_reason(folder, problem)}"
        ) from problem
    missing = [part for part in ("embed", "blocks", "unembed") if not hasattr(bridge, part)]
    if missing or bridge.tokenizer is None:
        what = "tokenizer" if not missing else missing[0]
        raise ModelError(f"{name} has no {what}, so it is no causal language model; choose one that predicts text.")
    return bridge


def _reason(folder: ModelFolder, problem: Exception) -> str:
    if "auto_map" in folder.config and "trust_remote_code" in str(problem):
        return "it needs code from its repository, which is never run; choose a model that transformers itself knows."
    text = " ".join(str(problem).split()) or type(problem).__name__
    return f"{text if len(text) <= 240 else text[:239] + '…'}; choose another model or get it again."


def _make_room(source: _Source, device: str, dtype: str) -> None:
    """Let go of models that were not asked for lately until this one fits. Raises `ModelError` if it cannot."""
    import psutil

    wanted = memory.needed(source.parameters, dtype)
    with _guard:
        held = sum(model.facts.memory for model in _opened.values())
        while _opened and (
            wanted > memory.available(device) or held + wanted > psutil.virtual_memory().total * KEPT_SHARE
        ):
            held -= _opened.popitem(last=False)[1].facts.memory
            _collect()
    smaller = "a smaller model" if dtype != "float32" else "a smaller model or dtype bfloat16"
    for place in dict.fromkeys(("cpu", device)):  # weights pass through the machine's memory on their way to a GPU
        memory.require(wanted, place, what=f"Opening {source.text}", way_out=f"close other programs, or use {smaller}")


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
