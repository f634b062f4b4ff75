"""What is measured of circuits for all pairwise ANDs: against their size, by class of neuron, by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.architectures import make
from engine.dictionaries.choices import Choices
from engine.dictionaries.trainer import Plan, Trainer
from engine.dictionaries.weights import Moments
from engine.toys.boolean.circuits import (
    FIT,
    TEST,
    Circuit,
    Score,
    Spread,
    World,
    balanced_error,
    bits_alone,
    dense_sign,
    gaussian,
    least_squares,
    score,
    shuffled,
    sparse,
)
from engine.toys.training import generator

Array: TypeAlias = npt.NDArray[Any]
CONSTRUCTED = 100  # stream of the first draw of constructed weights
SHUFFLE = 90
DICTIONARY = 80
DICTIONARY_BATCH = 256
PER_NEURON = 8  # samples to a neuron, from which on a readout is fitted


class Bench:
    """Fixed inputs on which circuits of one world are scored, and others on which readouts are fitted."""

    def __init__(self, world: World, samples: int, fitted: int, seed: int) -> None:
        self.world, self.seed, self.fitted = world, seed, fitted
        self.inputs = world.draw(samples, generator(seed, TEST))
        self.answers = world.ands(self.inputs)
        self.fit_inputs = world.draw(fitted, generator(seed, FIT))
        self.fit_answers = world.ands(self.fit_inputs)

    def score(self, circuit: Circuit) -> Score:
        """The score on the test inputs."""
        return score(circuit(self.inputs), self.answers)

    def fit(self, circuit: Circuit) -> Circuit:
        """The same hidden layer, read out by least squares."""
        return least_squares(circuit, self.fit_inputs, self.fit_answers)

    def constructed(self, neurons: int, density: float, draw: int = 0) -> dict[str, Circuit]:
        """The circuits that need no training, the ``draw``-th of each, by name; a Gaussian hidden layer among them."""
        stream = CONSTRUCTED + draw  # the same chance for each
        return {
            "dense sign": dense_sign(self.world, neurons, generator(self.seed, stream)),
            "sparse": sparse(self.world, neurons, density, generator(self.seed, stream)),
            "Gaussian": gaussian(self.world, neurons, generator(self.seed, stream)),
        }

    def mixed(self, circuit: Circuit, draw: int = 0) -> Circuit:
        """The control: the circuit's readouts dealt out to the wrong pairs."""
        return shuffled(circuit, generator(self.seed, SHUFFLE + draw))

    def fits(self, neurons: int) -> bool:
        """Whether a readout from so many neurons is fitted."""
        return neurons < self.world.pairs.shape[1] and PER_NEURON * neurons <= self.fitted

    @property
    def bits(self) -> Circuit:
        """The control: the bits with a readout by least squares."""
        return self.fit(bits_alone(self.world))


def compare(
    bench: Bench, counts: Sequence[int], density: float, draws: int, point: Callable[[], None]
) -> dict[str, dict[int, list[Score]]]:
    """Scores of all constructed circuits and controls by name and number of neurons, one for each draw of weights.

    Readouts are fitted where there are fewer neurons than pairs (else the answer is exact) and `PER_NEURON` samples or
    more to each. ``point`` is called between circuits.
    """
    found: dict[str, dict[int, list[Score]]] = {}
    for d in counts:
        for draw in range(draws):
            circuits = bench.constructed(d, density, draw)
            ready = {name: circuits[name] for name in ("dense sign", "sparse")}
            ready["dense sign, pairs shuffled"] = bench.mixed(circuits["dense sign"], draw)
            if bench.fits(d):
                ready |= {f"{name} + least squares": bench.fit(circuit) for name, circuit in circuits.items()}
            for name, circuit in ready.items():
                found.setdefault(name, {}).setdefault(d, []).append(bench.score(circuit))
                point()
    return found


def robustness(
    bench: Bench, circuits: Mapping[str, Circuit], active: Sequence[int], samples: int
) -> tuple[dict[str, list[Score]], dict[str, list[float]]]:
    """By name the scores with other numbers of active bits, and the errors at the threshold of the bench."""
    thresholds = {name: bench.score(circuit).threshold for name, circuit in circuits.items()}
    scores: dict[str, list[Score]] = {name: [] for name in circuits}
    errors: dict[str, list[float]] = {name: [] for name in circuits}
    for number in active:
        inputs = bench.world.draw(samples, generator(bench.seed, TEST), number)
        answers = bench.world.ands(inputs)
        for name, circuit in circuits.items():
            outputs = circuit(inputs)
            scores[name].append(score(outputs, answers))
            errors[name].append(balanced_error(outputs[answers], outputs[~answers], thresholds[name]))
    return scores, errors


def truth_table(bench: Bench, circuit: Circuit) -> list[tuple[Any, ...]]:
    """Rows (class, share of neurons, mean at 00, 10, 01, 11, sd over pairs at 11) for classes of neurons, and their sum.

    A neuron's class for a pair: its weight from each of the two bits is above (high) or below (low) the middle
    between its smallest and its largest weight, or 0 where all its weights are equal.
    """
    world, (i, j) = bench.world, bench.world.pairs
    largest, smallest = circuit.inward.amax(dim=0), circuit.inward.amin(dim=0)
    high = circuit.inward > torch.where(largest > smallest, (largest + smallest) / 2, 0.0)
    hidden = circuit.hidden(bench.inputs)
    first, second = bench.inputs[:, i] > 0, bench.inputs[:, j] > 0
    cells = [~first & ~second, first & ~second, ~first & second, first & second]
    rows: list[tuple[Any, ...]] = []
    names = ("first high, second high", "first high, second low", "first low, second high", "first low, second low")
    total = torch.zeros(4, world.pairs.shape[1])
    for number, name in enumerate(names):
        mine = (high[i] ^ bool(number & 2)) & (high[j] ^ bool(number & 1))  # (pairs, d)
        outputs = hidden @ (circuit.outward * mine.T)
        means = torch.stack([_cell(outputs, cell) for cell in cells])
        total += means
        rows.append((name, float(mine.float().mean()), *_row(means)))
    constant = circuit.offset.expand(4, -1)
    if bool(constant.abs().max() > 0):
        rows.append(("offset", 0.0, *_row(constant)))
        total += constant
    return [*rows, ("sum", 1.0, *_row(total))]


def _cell(outputs: Tensor, cell: Tensor) -> Tensor:
    """Mean of each pair's outputs over the samples in its cell."""
    return (outputs * cell).sum(dim=0) / cell.sum(dim=0)


def _row(means: Tensor) -> list[float]:
    known = torch.isfinite(means)
    averaged = [
        float(row[there].double().mean()) if there.any() else np.nan for row, there in zip(means, known, strict=True)
    ]
    both = means[3][known[3]]
    return [*averaged, float(both.std(unbiased=False)) if len(both) else np.nan]


def by_layer(bench: Bench, spread: Spread) -> list[Score]:
    """The score of the output block after each layer."""
    return [score(outputs, bench.answers) for outputs in spread.outputs(bench.inputs)]


def nearest(directions: Tensor, outputs: int) -> float:
    """Mean over outputs of the largest cosine that any of ``directions`` (n, outputs) has with that output."""
    unit = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return float(unit[:, :outputs].amax(dim=0).double().mean())


def dictionaries(
    bench: Bench, spread: Spread, layers: Sequence[int], steps: int, k: int, point: Callable[[], None]
) -> dict[str, Array]:
    """Mean largest cosine of a TopK dictionary's atoms with the outputs, for each of ``layers``, with controls.

    A dictionary with one atom a pair is trained on the output block after each layer (from 0). Controls: the same on
    Gaussian noise of the outputs' mean and covariance, and random directions.
    """
    pairs = bench.world.pairs.shape[1]
    outputs = spread.outputs(bench.fit_inputs)
    rows = np.full((3, len(layers)), np.nan)
    for place, layer in enumerate(layers):
        source = generator(bench.seed, DICTIONARY + layer)
        data = outputs[layer]
        for row, activations in enumerate((data, _noise_like(data, source))):
            rows[row, place] = nearest(_dictionary(activations, steps, k, source, point), pairs)
        rows[2, place] = nearest(torch.randn(pairs, pairs, generator=source), pairs)
    names = ("dictionary on the outputs", "dictionary on Gaussian noise", "random directions")
    return dict(zip(names, rows, strict=True))


def _noise_like(data: Tensor, source: torch.Generator) -> Tensor:
    """Gaussian noise of the mean and covariance of ``data`` (samples, pairs): what is left when only those are known."""
    centred = data - data.mean(dim=0)
    values, vectors = torch.linalg.eigh((centred.T @ centred).double() / len(data))
    root = (vectors * values.clamp(min=0).sqrt()).float()
    noise: Tensor = torch.randn(data.shape, generator=source) @ root.T
    return noise + data.mean(dim=0)


def _dictionary(data: Tensor, steps: int, k: int, source: torch.Generator, point: Callable[[], None]) -> Tensor:
    """The atoms (pairs, pairs) of a TopK dictionary on ``data`` (samples, pairs), an atom for each output."""
    mean = data.mean(dim=0)
    variance = float((data - mean).square().sum(dim=1).mean())
    if variance == 0:  # nothing is written yet
        return torch.zeros(data.shape[1], data.shape[1])
    scale = (data.shape[1] / variance) ** 0.5
    moments = Moments(mean * scale, mean * scale, variance * scale**2)
    family = make(Choices("topk", data.shape[1], k), moments)
    weights = family.initial(data.shape[1], data.shape[1], source)
    trainer = Trainer(weights, family, Plan.usual(steps, 3e-3, 10 * len(data)))
    for _ in range(steps):
        rows = torch.randint(0, len(data), (DICTIONARY_BATCH,), generator=source)
        trainer.step(data[rows] * scale)
        point()
    return weights.decoder
