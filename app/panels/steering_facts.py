"""The answers of the look "steer" as the bench reads them. Free of Qt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.panels.words import number

# What the text without steering depends on: it stays as it is while anything else is changed.
CLEAN = ("model", "prompt", "new_tokens", "temperature", "seed")


def effect_line(facts: Mapping[str, Any]) -> str:
    """What steering did, in one line: how far the next-token distributions moved, and how long it took."""
    parts = []
    if isinstance(facts.get("mean_kl"), int | float):
        told = f"KL {number(facts['mean_kl'], 3)} nats per token"
        if isinstance(facts.get("mean_kl_random"), int | float):
            told += f", random {number(facts['mean_kl_random'], 3)}"
        parts.append(told)
    if isinstance(facts.get("milliseconds_to_first"), int | float):
        parts.append(f"first token {facts['milliseconds_to_first']:,.0f} ms")
    if isinstance(facts.get("tokens_per_second"), int | float):
        parts.append(f"{number(facts['tokens_per_second'], 3)} tokens/s")
    return " · ".join(parts)


def clean_of(parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the text without steering depends on."""
    return tuple(parameters.get(name) for name in CLEAN)


def tokens_of(facts: Mapping[str, Any], side: str) -> list[str]:
    """Tokens of the text ``side``: "clean" or "steered"."""
    found = facts.get(side)
    return [str(token) for token in (found.get("tokens", []) if isinstance(found, dict) else found or [])]


def marks_of(facts: Mapping[str, Any], side: str) -> list[bool]:
    """For each token of that text, whether the other text has another one there."""
    found = facts.get("marks" if side == "steered" else "clean_marks")
    return [bool(mark) for mark in found] if isinstance(found, list) else []


def pair_of(found: Any) -> tuple[float, float] | None:
    """Two numbers, or None where there are none."""
    return (float(found[0]), float(found[1])) if isinstance(found, list | tuple) and len(found) == 2 else None
