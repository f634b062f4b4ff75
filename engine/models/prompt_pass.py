"""One forward pass over a prompt, kept, so that switching layer, stream or quantity answers at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformer_lens.tools.analysis.logit_lens import LogitReadout, logit_readout

from engine.models import memory
from engine.models.errors import ModelError

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Floats: TypeAlias = npt.NDArray[np.float32]
USUAL = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
PATTERN = "attn.hook_pattern"
PATTERNS_KEPT = 256_000_000  # bytes of attention patterns that are kept; longer prompts compute them layer by layer
EAGER_COPIES = 4  # of the attention scores that exist at once while TransformerLens computes them
STREAMS_AT_ONCE = 256_000_000  # bytes of streams that the first pass keeps besides the one asked for
KEPT_PASSES, KEPT_BYTES = 3, 1_000_000_000
LENS_ROWS = 256  # vectors read at once; TransformerLens looks the whole model over at each call, which takes 30 ms
LENS_CHUNK = 128  # vectors whose logits over the vocabulary exist at once


@dataclass(frozen=True)
class Lens:
    """The logit lens at every layer and position: (layers, positions) each. ``entropy`` in nats."""

    top: npt.NDArray[np.int64]
    probability: Floats
    entropy: Floats


class PromptPass:
    """Activations of one prompt. Made by `prompt_pass`.

    Attributes:
        model: the model.
        ids: token ids, BOS included where it was prepended.
    """

    def __init__(self, model: OpenModel, ids: Sequence[int]) -> None:
        self.model = model
        self.ids = tuple(ids)
        self._streams: dict[str, Tensor] = {}
        self._patterns: dict[int, Floats] = {}
        self._lenses: dict[str, Lens] = {}

    @property
    def positions(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        streams = sum(stream.nbytes for stream in list(self._streams.values()))
        return streams + sum(pattern.nbytes for pattern in list(self._patterns.values()))

    def stream(self, name: str, run: Run | None = None) -> Tensor:
        """Activations (layers, positions, units) of the hook point ``name`` of every block, float32 on the CPU.

        Raises:
            ModelError: not every block has a hook point of this name with a vector per token.
        """
        if name not in self._streams:
            check_stream(self.model, name)
            known = streams(self.model)
            wanted = [name]
            each = self.model.facts.layers * self.positions * self.model.facts.d_model * 4
            if not self._streams and each * len(USUAL) <= STREAMS_AT_ONCE:
                wanted += [usual for usual in USUAL if usual in known and usual != name]
            self._run(wanted, self._patterns_to_keep() if not self._patterns else [], run)
        return self._streams[name]

    def pattern(self, layer: int, run: Run | None = None) -> Floats | None:
        """Attention weights (heads, positions, source positions) of a block; None where it has none."""
        if f"blocks.{layer}.{PATTERN}" not in names(self.model):
            return None
        if layer not in self._patterns:
            self._run([], [layer], run)
        return self._patterns[layer]

    def lens(self, name: str, run: Run | None = None) -> Lens:
        """The most likely token when the model stopped after each layer of a stream, through norm and unembedding.

        Raises:
            ModelError: the stream is not as wide as the residual stream, or the model's output is not
                the unembedding of its last layer.
        """
        if name not in self._lenses:
            stream = self.stream(name, run)
            vectors = stream.flatten(0, 1)
            tops, probabilities, entropies = [], [], []
            for start in range(0, len(vectors), LENS_ROWS):
                if run is not None:
                    run.point()
                    run.progress(start, len(vectors), "cells")
                found = self.readout(vectors[start : start + LENS_ROWS], 1)
                assert found.top_ids is not None
                tops.append(found.top_ids[:, 0].cpu())
                probabilities.append(found.values[:, 0].float().cpu())
                entropies.append(found.entropy.float().cpu())
            shape = tuple(stream.shape[:2])
            self._lenses[name] = Lens(
                torch.cat(tops).reshape(shape).numpy(),
                torch.cat(probabilities).reshape(shape).numpy(),
                torch.cat(entropies).reshape(shape).numpy(),
            )
        return self._lenses[name]

    def readout(self, vectors: Tensor, top: int) -> LogitReadout:
        """The ``top`` most likely tokens with their probabilities for vectors (n, d_model). Raises `ModelError`."""
        if not predicts_tokens(self.model):
            raise ModelError(
                f"{self.model.facts.title} predicts no tokens, so there is no logit lens; show the norm or one unit."
            )
        if vectors.shape[-1] != self.model.facts.d_model:
            raise ModelError(
                f"The logit lens reads vectors of the residual stream ({self.model.facts.d_model} units), and these "
                f"have {vectors.shape[-1]}; choose hook_resid_post, hook_attn_out or hook_mlp_out."
            )
        try:
            with self.model.lock:
                return logit_readout(
                    self.model.bridge,
                    vectors,
                    top_k=min(top, self.model.facts.vocabulary),
                    return_type="probs",
                    chunk_size=LENS_CHUNK,
                )
        except (ValueError, NotImplementedError) as problem:
            raise ModelError(f"The logit lens does not work for {self.model.facts.title}: {problem}") from problem

    def _patterns_to_keep(self) -> list[int]:
        facts = self.model.facts
        if facts.layers * facts.heads * self.positions**2 * 4 > PATTERNS_KEPT:
            return []
        known = names(self.model)
        return [layer for layer in range(facts.layers) if f"blocks.{layer}.{PATTERN}" in known]

    def _run(self, wanted: Sequence[str], patterns: Sequence[int], run: Run | None) -> None:
        model, facts = self.model, self.model.facts
        memory.require(
            EAGER_COPIES * facts.heads * self.positions**2 * 4,
            facts.device,
            what=f"Attention over {self.positions:,} tokens",
            way_out="use a shorter prompt",
        )
        if run is not None:
            run.stage("Running the model")
        labels: dict[str, list[tuple[str, int]]] = {}
        for layer in range(facts.layers):
            for name in wanted:
                canonical = model.hook_point(f"blocks.{layer}.{name}").canonical
                labels.setdefault(canonical, []).append((name, layer))
        for layer in patterns:
            canonical = model.hook_point(f"blocks.{layer}.{PATTERN}").canonical
            labels.setdefault(canonical, []).append((PATTERN, layer))
        last = max((layer for found in labels.values() for _, layer in found), default=-1) + 1

        def breathe(value: Tensor, hook: Any) -> None:
            # Only Stop counts here: who waits inside a forward pass keeps the model from others.
            if run is not None and run.control.stopped:
                run.point()

        breaths = [(f"blocks.{layer}.hook_in", breathe) for layer in range(facts.layers)]
        ids = torch.tensor([self.ids], device=model.device)
        with model.lock, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            with model.bridge.hooks(fwd_hooks=breaths):
                _, cache = model.bridge.run_with_cache(
                    ids,
                    names_filter=lambda name: name in labels,
                    stop_at_layer=last if last < facts.layers else None,
                    return_cache_object=False,
                )
        streams: dict[str, list[Tensor]] = {}
        for canonical, places in labels.items():
            value = cache[canonical][0].float().cpu()
            for name, layer in places:
                if name == PATTERN:
                    self._patterns[layer] = value.numpy()
                else:
                    streams.setdefault(name, []).append(value.flatten(1))
        self._streams |= {name: torch.stack(values) for name, values in streams.items()}


def names(model: OpenModel) -> set[str]:
    """Familiar and canonical names of all hook points of ``model``."""
    points = model.hook_points()
    return {point.name for point in points} | {point.canonical for point in points}


def streams(model: OpenModel) -> list[str]:
    """Names below the block (``hook_resid_post``, ``attn.hook_z``) that every block has, with a vector per token."""
    blocks: dict[str, set[int]] = {}
    for point in model.hook_points():
        if point.layer is not None and point.width:
            blocks.setdefault(point.name.removeprefix(f"blocks.{point.layer}."), set()).add(point.layer)
    return [name for name, layers in blocks.items() if len(layers) == model.facts.layers]


def stream_of(model: OpenModel, asked: str) -> str:
    """``asked``, or the last stream of a toy network, whose hook points have names of their own."""
    known = streams(model)
    return asked if asked in known or predicts_tokens(model) or not known else known[-1]


def predicts_tokens(model: OpenModel) -> bool:
    """Whether the model ends in an unembedding: a toy network without tokens does not."""
    return hasattr(model.bridge, "unembed")


def check_stream(model: OpenModel, name: str) -> int:
    """Units of the stream ``name``.

    Raises:
        ModelError: some block has no such hook point, or it has no vector per token.
    """
    widths = {model.check_hook(f"blocks.{layer}.{name}") for layer in range(model.facts.layers)}
    if len(widths) > 1:
        raise ModelError(f"{name} has a different width in some blocks ({sorted(widths)}); choose another stream.")
    return widths.pop()


_guard = threading.Lock()


def prompt_pass(model: OpenModel, prompt: str, *, prepend_bos: bool = True) -> PromptPass:
    """The kept pass over ``prompt``, or a new one; nothing is computed until something is asked of it.

    Raises:
        ModelError: the prompt is empty or longer than the model's context.
    """
    if not model.encode(prompt, prepend_bos=False):
        raise ModelError("The prompt is empty; type some text to see what the model does with it.")
    ids = model.encode(prompt, prepend_bos=prepend_bos)
    context = model.facts.context
    if len(ids) > context:
        raise ModelError(
            f"The prompt has {len(ids):,} tokens, but {model.facts.title} reads at most {context:,}; "
            f"shorten it by {len(ids) - context:,}."
        )
    key = tuple(ids)
    with _guard:
        kept = model.passes
        found = kept.pop(key, None) or PromptPass(model, ids)
        kept[key] = found
        while len(kept) > 1 and (len(kept) > KEPT_PASSES or sum(one.size for one in kept.values()) > KEPT_BYTES):
            kept.popitem(last=False)
        return found
