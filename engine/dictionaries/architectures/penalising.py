"""A sparsity penalty on the entries of a code, and its derivatives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from engine.dictionaries import penalties
from engine.dictionaries.architectures.base import total
from engine.dictionaries.architectures.codes import Code
from engine.dictionaries.choices import Choices
from engine.dictionaries.weights import Weights


@dataclass(frozen=True)
class Penalised:
    """A penalty over a batch.

    Attributes:
        total: its sum, float64 scalar.
        by_value: its derivative by each entry (entries).
        by_decoder: by the atoms (F, D), None where they are unit.
    """

    total: Tensor
    by_value: Tensor
    by_decoder: Tensor | None


def penalise(choices: Choices, weights: Weights, code: Code, a: Tensor, *, weighs: bool) -> Penalised:
    """The penalty of the entries' values ``a`` ≥ 0, seen as a · ‖atom‖ where ``weighs``.

    Values of zero cost nothing, and only derivatives at positive ones are meant.
    """
    if not weighs:
        summed, by_value = _penalty(choices, code, a)
        return Penalised(summed, by_value, None)
    lengths = weights.lengths()
    summed, by_size = _penalty(choices, code, a * code.at(lengths))
    by_length = code.totals(by_size * a)
    return Penalised(summed, by_size * code.at(lengths), along(weights, lengths, by_length))


def along(weights: Weights, lengths: Tensor, by_length: Tensor) -> Tensor:
    """Derivative by the atoms (F, D) from that by their ``lengths`` (F,); zero where an atom is zero."""
    return weights.decoder * (by_length / lengths).nan_to_num(0.0, 0.0, 0.0)[:, None]


def _penalty(choices: Choices, code: Code, sizes: Tensor) -> tuple[Tensor, Tensor]:
    name, scale, p = choices.penalty, choices.penalty_scale, choices.penalty_p
    values, slopes = penalties.values(name, sizes, scale, p), penalties.slopes(name, sizes, scale, p)
    if name != "product":
        return total(values), slopes
    products, by_exponent = penalties.product(code.per_row(values))
    return total(products), slopes * code.spread(by_exponent)
