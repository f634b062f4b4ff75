"""Hidden Markov processes whose optimal prediction is known exactly: Mess3 and RRXOR (Shai et al. 2024).

A process is given by one matrix per token, ``T[s, i, j]`` = P(next state j, token s | state i). An observer who
knows them holds a **belief**: the probability of each state given the tokens so far. It starts as the stationary
law and follows ``b' = b T[s] / (b T[s] 1)``; the next token's law is linear in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.toys.errors import ToyError

Array: TypeAlias = npt.NDArray[Any]
ProcessName: TypeAlias = Literal["mess3", "rrxor"]
MOST = 2_000_000  # beliefs that are followed at once
DIGITS = 12  # to which beliefs are compared


@dataclass(frozen=True)
class Process:
    """A stationary hidden Markov process.

    Attributes:
        matrices: (tokens, states, states) float64; summed over tokens the rows are laws.
        tokens, states: names.
    """

    matrices: Array
    tokens: tuple[str, ...]
    states: tuple[str, ...]

    def __post_init__(self) -> None:
        total = self.matrices.sum(axis=(0, 2))
        if (self.matrices < 0).any() or not np.allclose(total, 1.0, atol=1e-12):
            raise ToyError(f"Each state of a process leaves with probability 1, not {total}; mend its matrices.")

    @property
    def stationary(self) -> Array:
        """The law of states that stays as it is: (states,)."""
        transition = self.matrices.sum(axis=0)
        n = len(transition)
        equations = np.vstack([transition.T - np.eye(n), np.ones(n)])
        return np.asarray(np.linalg.lstsq(equations, np.r_[np.zeros(n), 1.0], rcond=None)[0])

    @property
    def emission(self) -> Array:
        """P(next token | state): (states, tokens)."""
        return np.asarray(self.matrices.sum(axis=2).T)

    def sample(self, count: int, length: int, random: np.random.Generator) -> tuple[Array, Array]:
        """Draw ``count`` sequences of ``length`` tokens from the stationary process.

        Returns:
            Tokens (count, length) and the hidden states (count, length + 1) before, between and behind them, int64.
        """
        n = len(self.states)
        # From each state one choice among all pairs (token, next state).
        steps = np.cumsum(self.matrices.transpose(1, 0, 2).reshape(n, -1), axis=1)
        steps[:, -1] = 1.0
        start = np.cumsum(self.stationary)
        start[-1] = 1.0
        drawn = random.random((length + 1, count))
        states = np.empty((count, length + 1), np.int64)
        tokens = np.empty((count, length), np.int64)
        states[:, 0] = np.searchsorted(start, drawn[0], side="right")
        for t in range(length):
            pair = (drawn[t + 1][:, None] >= steps[states[:, t]]).sum(axis=1)
            tokens[:, t], states[:, t + 1] = np.divmod(pair, n)
        return tokens, states

    def update(self, belief: Array, token: Array) -> Array:
        """Beliefs (count, states) after one more token (count,) each."""
        moved = np.einsum("ni,nij->nj", belief, self.matrices[token])
        return np.asarray(moved / moved.sum(axis=1, keepdims=True))

    def beliefs(self, tokens: Array) -> Array:
        """Beliefs after each token of ``tokens`` (count, length): (count, length, states) float64.

        Tokens that cannot follow give NaN.
        """
        count, length = tokens.shape
        belief = np.tile(self.stationary, (count, 1))
        found = np.empty((count, length, len(self.states)))
        with np.errstate(invalid="ignore"):
            for t in range(length):
                found[:, t] = belief = self.update(belief, tokens[:, t])
        return found

    def next_law(self, beliefs: Array) -> Array:
        """Law of the next token under each belief: (..., tokens)."""
        return np.asarray(beliefs @ self.emission)

    def reachable(self, length: int) -> list[tuple[Array, Array]]:
        """For 0, 1, … ``length`` tokens the distinct beliefs (n, states) and their probabilities (n,).

        Raises:
            ToyError: they are too many to follow.
        """
        belief: Array = self.stationary[None]
        weight: Array = np.ones(1)
        found = [(belief, weight)]
        for position in range(length):
            if len(belief) * len(self.tokens) > MOST:
                raise ToyError(
                    f"After {position + 1} tokens this process has more than {MOST:,} beliefs; choose a shorter context."
                )
            moved = np.einsum("ni,sij->nsj", belief, self.matrices).reshape(-1, len(self.states))
            chance = moved.sum(axis=1)
            weight = (weight[:, None] * chance.reshape(len(belief), -1)).ravel()
            possible = chance > 0
            moved, weight = moved[possible] / chance[possible, None], weight[possible]
            _, first, group = np.unique(np.round(moved, DIGITS), axis=0, return_index=True, return_inverse=True)
            belief, weight = moved[first], np.bincount(group.ravel(), weight)
            found.append((belief, weight))
        return found

    def optimal_losses(self, length: int) -> Array:
        """Least possible mean loss in nats of token 1, 2, … ``length`` given all before it: (length,) float64.

        Exact: the entropy of the next token's law, averaged over all beliefs that can be reached.
        """
        return np.array([weight @ _entropy(self.next_law(belief)) for belief, weight in self.reachable(length - 1)])


def _entropy(law: Array) -> Array:
    return np.asarray(-np.sum(law * np.log(np.where(law > 0, law, 1.0)), axis=-1))


def mess3(x: float = 0.05, alpha: float = 0.85) -> Process:
    """Mess3: three states that are left with chance ``2 x``; the new state's own token comes with chance ``alpha``.

    The beliefs form a fractal in the triangle, and the next token's law is an invertible linear map of them.
    """
    transition = np.full((3, 3), x) + (1 - 3 * x) * np.eye(3)
    emission = np.full((3, 3), (1 - alpha) / 2) + (alpha - (1 - alpha) / 2) * np.eye(3)
    matrices = transition[None] * emission.T[:, None, :]
    return Process(matrices, ("a", "b", "c"), ("A", "B", "C"))


def rrxor() -> Process:
    """RRXOR: two random bits, then their exclusive or, again and again, with no mark where a triple begins.

    Five states: before a triple, behind a first bit of 0 or 1, and before a third bit that has to be 0 or 1. The
    first three share one law of the next token, so beliefs hold more than that law.
    """
    matrices = np.zeros((2, 5, 5))
    for bit in (0, 1):
        matrices[bit, 0, 1 + bit] = 0.5
        for first in (0, 1):
            matrices[bit, 1 + first, 3 + (first ^ bit)] = 0.5
        matrices[bit, 3 + bit, 0] = 1.0
    return Process(matrices, ("0", "1"), ("S", "0", "1", "xor 0", "xor 1"))


def process(name: ProcessName, x: float = 0.05, alpha: float = 0.85) -> Process:
    """The process ``name``; ``x`` and ``alpha`` are those of Mess3."""
    return mess3(x, alpha) if name == "mess3" else rrxor()
