"""Prompt sets: pairs of completions, with labels and with factors declared beforehand.

A row has a ``prompt`` and two completions of it. A direction is made from the activations of the prompt with the one
and with the other; what steering does to a row is measured by the log-probabilities of both after the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COLUMNS = ("prompt", "positive", "negative", "suffix", "label")  # every other column is a factor


@dataclass(frozen=True)
class PromptRow:
    """One row.

    Attributes:
        prompt: what both completions follow; may be empty where the completions are whole texts.
        positive, negative: completions, with their leading space where the tokenizer wants one.
        suffix: text behind the completion when activations are read, so that they need not be read on the answer.
        label: the class of the prompt (a number, a day), "" for none.
        factors: value by factor: what else differs between rows (template, name, answer letter).
    """

    prompt: str
    positive: str = ""
    negative: str = ""
    suffix: str = ""
    label: str = ""
    factors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptSet:
    """Rows with what is said of them.

    Attributes:
        name: what it is called;  reference: by which it is opened again.
        rows: at least one.
        classes: labels in their order (numbers by value, days from Monday, else as they first come); () without labels.
        cyclic: whether the class after the last is the first.
        note: what is known of it, in a sentence.
    """

    name: str
    reference: str
    rows: tuple[PromptRow, ...]
    classes: tuple[str, ...] = ()
    cyclic: bool = False
    note: str = ""

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors, in the order of the columns."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.factors))
