"""Texts of SmolLM2 with an intervention in place against transformers' own generation, and the bench's first token.

Goals: at least 0.8 of the tokens per second of `model.generate` (greedy, key/value cache, nothing changed), and the
first steered token at most 300 ms after the look was asked, with the model, the direction and the clean text there.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from engine.models.opening import OpenModel, open_model
from engine.runs.declaration import find
from engine.runs.looks import LookLane
from engine.runs.messages import Answered, Ask
from engine.steering.generation import Sampling, Steered, Text, clean_text
from engine.steering.interventions import AddVector
from tests.benchmarks._home import use_test_models
from tests.benchmarks.capture import seconds

LAYER = 15
HOOK = f"blocks.{LAYER}.hook_resid_post"
PROMPT = "Yesterday evening I went to the new restaurant at the corner with my best friends, and food"  # 20 tokens
GOAL, FIRST_GOAL, FIRST_ACCEPTABLE = 0.8, 300.0, 500.0


def bare(model: OpenModel) -> Any:
    """transformers' own model from the same files."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model.facts.source, dtype=torch.float32).eval()


def generation(model: OpenModel, prompt: list[int], tokens: int, pairs: int) -> None:
    """Tokens per second with an intervention, in turns with transformers' own."""
    reference = bare(model)
    vector = torch.randn(model.facts.d_model, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([prompt])
    spent: dict[str, list[float]] = {"transformers": [], "steered": [], "not steered": []}
    computed: dict[str, list[float]] = {name: [] for name in spent}

    @torch.no_grad()
    def theirs() -> list[int]:
        made = reference.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=2,
        )
        found: list[int] = made[0, len(prompt) :].tolist()
        return found

    def ours(strength: float | None) -> list[int]:
        steered = Steered(AddVector(vector), HOOK, "all", strength) if strength is not None else None
        text = Text(model, prompt, Sampling(), steered)
        text._ends = frozenset()  # as min_new_tokens
        for _ in range(tokens):
            text.advance()
        return text.tokens

    same = ours(0.0) == ours(None) == theirs()
    ways: list[tuple[str, Callable[[], object]]] = [
        ("transformers", theirs),
        ("steered", lambda: ours(4.0)),
        ("not steered", lambda: ours(None)),
    ]
    for number in range(pairs):
        for name, work in ways if number % 2 else reversed(ways):
            began = time.process_time()
            spent[name].append(seconds(work))
            computed[name].append(time.process_time() - began)
    for name, values in spent.items():
        print(f"  {name:<14} {tokens / statistics.median(values):6.1f} tokens/s")
    for name in ("steered", "not steered"):
        ratios, of_processor = (
            [a / b for a, b in zip(times["transformers"], times[name], strict=True)] for times in (spent, computed)
        )
        middle = statistics.median(ratios)
        verdict = f"  goal {GOAL}: {'reached' if middle >= GOAL else 'MISSED'}" if name == "steered" else ""
        print(f"  ratio {name:<14} {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f}){verdict}")
        print(
            f"    of processor time, which others on the machine do not change: {statistics.median(of_processor):.3f} "
            f"({min(of_processor):.3f} to {max(of_processor):.3f})"
        )
    print(f"  greedy text at strength 0 and without steering is that of transformers: {'yes' if same else 'NO'}")


def first_token(looks: int) -> None:
    """Milliseconds from the question to the first answer that holds a steered token, through the lane of looks."""
    heard: dict[int, float] = {}
    done: dict[int, Answered] = {}
    changed = threading.Condition()

    def send(message: object) -> None:
        if isinstance(message, Answered):
            with changed:
                if message.error:
                    print(f"  the look failed: {message.error}")
                heard.setdefault(message.look, time.perf_counter())
                if message.done:
                    done[message.look] = message
                changed.notify_all()

    lane = LookLane(send, lambda change: None)
    values = {"model": "smollm2", "prompts": "sentiment", "hook": HOOK, "prompt": PROMPT, "device": "cpu"}

    def ask(number: int, strength: float) -> float:
        began = time.perf_counter()
        lane.ask(Ask(number, "bench", "steer", values | {"strength": strength}))
        with changed:
            changed.wait_for(lambda: number in heard)
        return 1000 * (heard[number] - began)

    ask(0, 1.0)
    with changed:
        changed.wait_for(lambda: 0 in done)
    rested = []
    for number in range(1, looks + 1):
        rested.append(ask(number, 0.1 * number))
        with changed:
            changed.wait_for(lambda number=number: number in done)  # type: ignore[misc]
    dragged = [ask(1000 + number, 0.1 * number) for number in range(looks)]
    lane.close(10.0)
    for name, spent in (("at rest", rested), ("while the last look still runs", dragged)):
        middle = statistics.median(spent)
        verdict = "reached" if middle <= FIRST_GOAL else "acceptable" if middle <= FIRST_ACCEPTABLE else "MISSED"
        print(
            f"  first token, {name:<31} {middle:4.0f} ms ({min(spent):.0f} to {max(spent):.0f})  "
            f"goal {FIRST_GOAL:.0f} ms: {verdict}"
        )


def main() -> int:
    """Print the figures; the exit status is 0 whatever they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--looks", type=int, default=12)
    asked = parser.parse_args()
    use_test_models()
    find("steer")
    model = open_model("smollm2", device="cpu")
    prompt = model.encode(PROMPT)
    clean_text(model, prompt, Sampling()).start(HOOK)  # what is tried once is tried
    print(
        f"SmolLM2-135M, hook after block {LAYER} of {model.facts.layers}, prompt of {len(prompt)} tokens, {asked.tokens} "
        f"new ones, float32, {torch.get_num_threads()} threads, {asked.pairs} rounds in turns"
    )
    generation(model, prompt, asked.tokens, asked.pairs)
    first_token(asked.looks)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
