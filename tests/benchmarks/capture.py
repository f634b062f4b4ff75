"""Capture of SmolLM2's residual stream against a bare transformers forward pass that stops at the same layer.

Goal: at least 0.9 of its tokens per second, aim 0.98. Also shown: TransformerLens' own
`run_with_cache` with `stop_at_layer`, and the same hook point with the pass run to its end.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from engine.models.capture import bridge_read, capture
from engine.models.opening import OpenModel, open_model
from tests.benchmarks._home import use_test_models

LAYER, BATCH, LENGTH = 15, 8, 128
GOAL, AIM = 0.9, 0.98


def bare(model: OpenModel) -> Any:
    """transformers' own model from the same files, without the blocks after `LAYER`."""
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(model.facts.source, dtype=torch.float32).eval()
    inner = whole.model
    inner.layers = inner.layers[: LAYER + 1]
    inner.norm = torch.nn.Identity()
    return inner


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> int:
    """Print the ratios; the exit status is 0 whatever they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--batches", type=int, default=2, help="forward passes per timing")
    asked = parser.parse_args()
    use_test_models()
    model = open_model("smollm2", device="cpu")
    reference = bare(model)
    hook = f"blocks.{LAYER}.hook_resid_post"
    canonical = model.hook_point(hook).canonical
    ids = np.random.default_rng(0).integers(3, model.facts.vocabulary, (BATCH * asked.batches, LENGTH))
    parts = [torch.as_tensor(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]

    @torch.no_grad()
    def ours() -> list[torch.Tensor]:
        return [found[hook] for _, found in capture(model, ids, [hook], batch=BATCH)]

    @torch.no_grad()
    def theirs() -> list[torch.Tensor]:
        return [reference(input_ids=part, use_cache=False).last_hidden_state for part in parts]

    def lens() -> list[torch.Tensor]:
        return [bridge_read(model, part, [canonical])[canonical] for part in parts]

    largest = max(float((a - b).abs().max()) for a, b in zip(ours(), theirs(), strict=True))
    lens()
    ratios: dict[str, list[float]] = {"capture": [], "TransformerLens, stop_at_layer": []}
    spent: dict[str, list[float]] = {"bare transformers": [], "capture": [], "TransformerLens, stop_at_layer": []}
    for number in range(asked.pairs):
        order = [("bare transformers", theirs), ("capture", ours), ("TransformerLens, stop_at_layer", lens)]
        times = {name: seconds(work) for name, work in (order if number % 2 else reversed(order))}
        for name, value in times.items():
            spent[name].append(value)
            if name in ratios:
                ratios[name].append(times["bare transformers"] / value)
    print(
        f"SmolLM2-135M, hook after block {LAYER} of {model.facts.layers}, {BATCH} × {LENGTH} tokens, float32, "
        f"{torch.get_num_threads()} threads, {asked.pairs} pairs in turns"
    )
    for name, values in spent.items():
        print(f"  {name:<32} {ids.size / statistics.median(values):8,.0f} tokens/s")
    for name, values in ratios.items():
        middle = statistics.median(values)
        verdict = ""
        if name == "capture":
            verdict = "reaches the aim" if middle >= AIM else "reaches the goal" if middle >= GOAL else "MISSED"
            verdict = f"  goal {GOAL}, aim {AIM}: {verdict}"
        print(f"  ratio {name:<32} {middle:.3f} ({min(values):.3f} to {max(values):.3f}){verdict}")
    print(f"  largest difference of an activation from bare transformers: {largest:.2g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
