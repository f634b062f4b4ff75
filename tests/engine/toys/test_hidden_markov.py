"""Hidden Markov processes: beliefs against brute-force Bayes, losses against enumeration, samples against laws."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from engine.toys.beliefs.hidden_markov import Process, mess3, process, rrxor
from engine.toys.errors import ToyError


def joint(found: Process, tokens: tuple[int, ...]) -> np.ndarray:
    """P(tokens, last state) by summing over every path of hidden states."""
    states = range(len(found.states))
    total = np.zeros(len(found.states))
    for path in itertools.product(states, repeat=len(tokens) + 1):
        chance = found.stationary[path[0]]
        for t, token in enumerate(tokens):
            chance = chance * found.matrices[token, path[t], path[t + 1]]
        total[path[-1]] += chance
    return total


@pytest.mark.parametrize(("name", "length"), [("mess3", 6), ("rrxor", 5)])
def test_beliefs_are_those_of_bayes_over_all_hidden_paths(name: str, length: int) -> None:
    found = process(name)
    checked = 0
    for tokens in itertools.islice(itertools.product(range(len(found.tokens)), repeat=length), 0, None, 37):
        total = joint(found, tokens)
        if total.sum() == 0:
            continue
        own = found.beliefs(np.array([tokens]))[0, -1]
        assert own == pytest.approx(total / total.sum(), abs=1e-10)
        checked += 1
    assert checked


def test_mess3_has_the_published_matrices() -> None:
    found = mess3(0.05, 0.85)
    a, b, x, y = 0.85, 0.075, 0.05, 0.9
    expected = [[a * y, b * x, b * x], [a * x, b * y, b * x], [a * x, b * x, b * y]]
    assert found.matrices[0] == pytest.approx(np.array(expected), abs=1e-15)
    # The other tokens are this one with the states renamed in a circle.
    for token in (1, 2):
        assert np.roll(expected, (token, token), axis=(0, 1)) == pytest.approx(found.matrices[token], abs=1e-15)
    assert found.stationary == pytest.approx([1 / 3] * 3)
    assert found.emission == pytest.approx(np.full((3, 3), 0.11375) + (0.7725 - 0.11375) * np.eye(3))


def test_optimal_losses_are_the_entropies_of_longer_and_longer_words() -> None:
    found = mess3()
    blocks = [0.0]
    for length in range(1, 6):
        words = itertools.product(range(3), repeat=length)
        chances = []
        for word in words:
            law = found.stationary
            for token in word:
                law = law @ found.matrices[token]
            chances.append(law.sum())
        blocks.append(-sum(p * math.log(p) for p in chances))
    assert found.optimal_losses(5) == pytest.approx(np.diff(blocks), abs=1e-10)
    assert found.optimal_losses(6) == pytest.approx([1.0986, 0.858, 0.814, 0.799, 0.795, 0.793], abs=1e-3)


def test_rrxor_reaches_36_beliefs_and_in_the_end_one_bit_in_three_is_known() -> None:
    found = rrxor()
    every = np.concatenate([belief for belief, _ in found.reachable(12)])
    assert len(np.unique(np.round(every, 9), axis=0)) == 36  # as Shai et al. 2024 count them
    assert found.stationary == pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6])
    losses = found.optimal_losses(40)
    assert losses[0] == pytest.approx(math.log(2))
    assert losses[-1] == pytest.approx(math.log(2) * 2 / 3, abs=1e-4)
    assert (np.diff(losses) < 1e-12).all()
    laws = found.emission
    assert np.array_equal(laws[0], laws[1])
    assert np.array_equal(laws[0], laws[2])


def test_every_third_bit_of_rrxor_is_the_exclusive_or_of_the_two_before_it() -> None:
    tokens, states = rrxor().sample(500, 12, np.random.default_rng(1))
    for row, path in zip(tokens, states, strict=True):
        begin = int(np.flatnonzero(path == 0)[0])
        for first in range(begin, 10, 3):
            assert row[first] ^ row[first + 1] == row[first + 2]


@pytest.mark.parametrize("name", ["mess3", "rrxor"])
def test_samples_follow_the_process(name: str) -> None:
    found = process(name)
    tokens, states = found.sample(40_000, 3, np.random.default_rng(0))
    n, s = len(found.states), len(found.tokens)
    pairs = np.bincount(
        np.ravel_multi_index((states[:, 0], tokens[:, 0], states[:, 1]), (n, s, n)), minlength=n * s * n
    )
    expected = (found.stationary[:, None, None] * found.matrices.transpose(1, 0, 2)).ravel() * len(tokens)
    assert (pairs[expected == 0] == 0).all()
    chi = ((pairs - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()
    assert chi < 2.2 * (expected > 0).sum()
    # The belief is the share of each state among sequences with the same tokens.
    same = (tokens == tokens[0]).all(axis=1)
    share = np.bincount(states[same, -1], minlength=n) / same.sum()
    assert share == pytest.approx(found.beliefs(tokens[:1])[0, -1], abs=4 * 0.5 / math.sqrt(same.sum()))


def test_the_same_generator_gives_the_same_sequences() -> None:
    one, other = (mess3().sample(5, 4, np.random.default_rng(3))[0] for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, mess3().sample(5, 4, np.random.default_rng(4))[0])


def test_matrices_that_are_no_laws_and_too_long_contexts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToyError, match="probability 1"):
        Process(np.ones((2, 2, 2)), ("0", "1"), ("A", "B"))
    monkeypatch.setattr("engine.toys.beliefs.hidden_markov.MOST", 5_000)
    with pytest.raises(ToyError, match=r"After 8 tokens .* shorter context"):
        mess3(0.051, 0.83).reachable(16)


def test_the_processes_need_no_torch() -> None:
    code = "import sys, engine.toys.beliefs.hidden_markov; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
