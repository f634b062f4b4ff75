"""All pairwise ANDs of sparse bits in one ReLU layer: circuits, how they are scored, spread over layers and trained.

Vaintrob, Mendel & Hänni 2024, "Toward a mathematical framework for computation in superposition"; Hänni, Mendel,
Vaintrob & Chan 2024, "Mathematical models of computation in superposition"; Newgas 2025, "Compressed computation:
dense circuits in a toy model of the Universal-AND problem".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from engine.toys.training import Trainer, generator, set_lr

WEIGHTS, DATA, TEST, FIT, SPREAD = range(5)  # streams of a run's seed
RIDGE = 1e-2
BINS = 4096  # thresholds that are tried


@dataclass(frozen=True)
class World:
    """``bits`` bits of which ``active`` are on: exactly so many, or each by itself with that mean."""

    bits: int
    active: int
    exact: bool = True

    @cached_property
    def pairs(self) -> Tensor:
        """(2, pairs) the bits i < j of each pair, rows of the upper triangle in order."""
        return torch.triu_indices(self.bits, self.bits, 1)

    def draw(self, count: int, source: torch.Generator, active: int | None = None) -> Tensor:
        """Inputs (count, bits) of zeros and ones; ``active`` in place of the world's own."""
        wanted = self.active if active is None else active
        noise = torch.rand(count, self.bits, generator=source)
        if self.exact:
            return torch.zeros_like(noise).scatter_(1, noise.topk(wanted, dim=1).indices, 1.0)
        return (noise < wanted / self.bits).float()

    def ands(self, inputs: Tensor) -> Tensor:
        """The answers (count, pairs) bool."""
        i, j = self.pairs
        return inputs[:, i] * inputs[:, j] > 0

    @property
    def rate(self) -> float:
        """Share of the pairs that are on."""
        if self.exact:
            return self.active * (self.active - 1) / (self.bits * (self.bits - 1))
        return (self.active / self.bits) ** 2


@dataclass(frozen=True)
class Circuit:
    """``ReLU(x @ inward + bias) @ outward + offset``: shapes (bits, d), (d,), (d, pairs), (pairs,)."""

    inward: Tensor
    bias: Tensor
    outward: Tensor
    offset: Tensor

    @property
    def neurons(self) -> int:
        """Hidden neurons d."""
        return len(self.bias)

    def hidden(self, inputs: Tensor) -> Tensor:
        """Hidden activations (count, d)."""
        return (inputs @ self.inward + self.bias).relu_()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs (count, pairs)."""
        return torch.addmm(self.offset, self.hidden(inputs), self.outward)


def sign_moments(active: int) -> tuple[float, float]:
    """Mean and mean square of ``e_i e_j ReLU(Σe)`` for ``active`` fair signs e, both pairs' bits among them."""
    mean = square = 0.0
    for plus in range(active + 1):
        chance, total = math.comb(active, plus) / 2**active, max(2 * plus - active, 0)
        minus = active - plus
        same = plus * (plus - 1) + minus * (minus - 1) - 2 * plus * minus
        mean += chance * total * same / (active * (active - 1))
        square += chance * total**2
    return mean, square


def sign_theory(active: int, neurons: float) -> tuple[float, float, float]:
    """Sd at positives, sd at negatives and d' of the dense sign circuit; for 3 active bits sd = sqrt(24 / d)."""
    mean, square = sign_moments(active)
    below = square / mean**2 / neurons
    above = (square / mean**2 - 1) / neurons
    return math.sqrt(above), math.sqrt(below), 1 / math.sqrt((above + below) / 2)


def dense_sign(world: World, neurons: int, source: torch.Generator) -> Circuit:
    """Weights ±1, read out by the product of the pair's signs: no neuron belongs to any pair."""
    signs = torch.randint(0, 2, (world.bits, neurons), generator=source).float() * 2 - 1
    i, j = world.pairs
    outward = (signs[i] * signs[j]).T / (neurons * sign_moments(world.active)[0])
    return Circuit(signs, torch.zeros(neurons), outward.contiguous(), torch.zeros(len(i)))


def sparse(world: World, neurons: int, density: float, source: torch.Generator) -> Circuit:
    """Each neuron reads a few bits (1 with chance ``density``) and is silent unless two of them are on."""
    reads = (torch.rand(world.bits, neurons, generator=source) < density).float()
    i, j = world.pairs
    both = reads[i] * reads[j]
    outward = (both / both.sum(dim=1, keepdim=True).clamp(min=1)).T
    return Circuit(reads, torch.full((neurons,), -1.0), outward.contiguous(), torch.zeros(len(i)))


def gaussian(world: World, neurons: int, source: torch.Generator) -> Circuit:
    """A control: a hidden layer that nobody designed; the readout is zero until it is fitted."""
    inward = torch.randn(world.bits, neurons, generator=source)
    pairs = world.pairs.shape[1]
    return Circuit(inward, torch.zeros(neurons), torch.zeros(neurons, pairs), torch.zeros(pairs))


def bits_alone(world: World) -> Circuit:
    """A control: no nonlinearity, the bits themselves as hidden layer."""
    bits, pairs = world.bits, world.pairs.shape[1]
    return Circuit(torch.eye(bits), torch.zeros(bits), torch.zeros(bits, pairs), torch.zeros(pairs))


def least_squares(circuit: Circuit, inputs: Tensor, answers: Tensor) -> Circuit:
    """The same hidden layer with the readout of ridge regression on ``inputs``: what the hidden layer is good for."""
    hidden = circuit.hidden(inputs)
    joined = torch.cat((hidden, torch.ones(len(hidden), 1)), dim=1)
    gram = (joined.T @ joined).double()
    gram.diagonal().add_(RIDGE)
    found = torch.linalg.solve(gram, (joined.T @ answers.float()).double()).float()
    return Circuit(circuit.inward, circuit.bias, found[:-1].contiguous(), found[-1].contiguous())


def shuffled(circuit: Circuit, source: torch.Generator) -> Circuit:
    """A control: the readouts dealt out to the wrong pairs."""
    order = torch.randperm(len(circuit.offset), generator=source)
    return Circuit(circuit.inward, circuit.bias, circuit.outward[:, order].contiguous(), circuit.offset[order])


@dataclass(frozen=True)
class Score:
    """How well outputs tell pairs that are on (positives) from the others, all pairs and samples together.

    Attributes:
        positives, negatives: how many.
        means, spreads: mean and standard deviation at positives and at negatives.
        separation: d' = difference of the means over the root mean square of the two spreads.
        error: balanced error, the mean of the shares missed and falsely found, at the best ``threshold``.
        error_at_half: balanced error at the threshold .5.
        missed: share of pairs whose mean output at positives is below the best threshold.
        mse: mean squared error;  explained: 1 - mse / mse of always the mean.
    """

    positives: int
    negatives: int
    means: tuple[float, float]
    spreads: tuple[float, float]
    separation: float
    error: float
    threshold: float
    error_at_half: float
    missed: float
    mse: float
    explained: float


def score(outputs: Tensor, answers: Tensor) -> Score:
    """Score ``outputs`` (count, pairs) against ``answers`` bool; moments in float64."""
    on, off = outputs[answers], outputs[~answers]
    means = (_mean(on), _mean(off))
    spreads = (_spread(on), _spread(off))
    pooled = math.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 2)
    difference = means[0] - means[1]
    separation = difference / pooled if pooled > 0 else math.copysign(math.inf, difference) if difference else 0.0
    error, threshold = _best(on, off)
    n, total = len(on), answers.numel()
    mse = (n * ((means[0] - 1) ** 2 + spreads[0] ** 2) + len(off) * (means[1] ** 2 + spreads[1] ** 2)) / total
    rate = n / total
    counted = answers.sum(dim=0)
    at_positives = (outputs * answers).sum(dim=0)[counted > 0] / counted[counted > 0]
    return Score(
        positives=n,
        negatives=len(off),
        means=means,
        spreads=spreads,
        separation=separation,
        error=error,
        threshold=threshold,
        error_at_half=balanced_error(on, off, 0.5),
        missed=_mean((at_positives < threshold).float()),
        mse=mse,
        explained=1 - mse / (rate * (1 - rate)) if 0 < rate < 1 else math.nan,
    )


def balanced_error(on: Tensor, off: Tensor, threshold: float) -> float:
    """Mean of the share of ``on`` below and of ``off`` at or above ``threshold``."""
    return (_mean((on < threshold).float()) + _mean((off >= threshold).float())) / 2


def _best(on: Tensor, off: Tensor) -> tuple[float, float]:
    """The least balanced error over `BINS` thresholds, and the middle of those that reach it."""
    low, high = (float(torch.stack((on.aminmax()[n], off.aminmax()[n])).aminmax()[n]) for n in (0, 1))
    if not high > low:
        return 0.5, low
    below = [torch.histc(part, BINS, low, high).double().cumsum(0) / len(part) for part in (on, off)]
    errors = torch.cat((torch.tensor([0.5], dtype=torch.float64), (below[0] + 1 - below[1]) / 2))
    least = errors.min()
    reached = torch.nonzero(errors <= least + 1e-12).flatten()
    edge = float(reached[0] + reached[-1]) / 2
    return float(least), low + (high - low) * edge / BINS


def _mean(values: Tensor) -> float:
    return float(values.mean(dtype=torch.float64)) if len(values) else math.nan


def _spread(values: Tensor) -> float:
    if not len(values):
        return math.nan
    centred = values - values.mean()
    return math.sqrt(float((centred * centred).mean(dtype=torch.float64)))


def density(circuit: Circuit) -> float:
    """Share of the readout's entries above a tenth of the largest."""
    size = circuit.outward.abs()
    return float((size > 0.1 * size.max()).float().mean()) if size.max() > 0 else 0.0


def kurtosis(circuit: Circuit) -> float:
    """Mean over neurons of their input weights' kurtosis: 1 for two values equally often, 3 for a Gaussian."""
    centred = (circuit.inward - circuit.inward.mean(dim=0)).double()
    variance = (centred**2).mean(dim=0)
    used = variance > 1e-12
    return float(((centred**4).mean(dim=0)[used] / variance[used] ** 2).mean()) if used.any() else math.nan


@dataclass(frozen=True)
class Spread:
    """A circuit whose neurons are spread over MLPs that read the same bits and add to the same outputs.

    ``layer`` (d,) is the MLP of each neuron, from 0.
    """

    circuit: Circuit
    layer: Tensor
    layers: int

    def outputs(self, inputs: Tensor) -> Tensor:
        """The output block after each MLP (layers, count, pairs); the readout's offset comes with the first."""
        hidden = self.circuit.hidden(inputs)
        parts = []
        for layer in range(self.layers):
            mine = self.layer == layer
            parts.append(hidden[:, mine] @ self.circuit.outward[mine])
        parts[0] = parts[0] + self.circuit.offset
        return torch.stack(parts).cumsum(dim=0)


def across_layers(circuit: Circuit, layers: int, source: torch.Generator) -> Spread:
    """Each neuron in a layer drawn by chance, the same number in each as far as that goes."""
    order = torch.randperm(circuit.neurons, generator=source)
    layer = torch.empty(circuit.neurons, dtype=torch.long)
    layer[order] = torch.arange(circuit.neurons) * layers // circuit.neurons
    return Spread(circuit, layer, layers)


def localised(circuit: Circuit, layers: int) -> Spread:
    """The control: all neurons in the middle layer."""
    return Spread(circuit, torch.full((circuit.neurons,), (layers - 1) // 2), layers)


class AndTrainer(Trainer):
    """Trains one network of each size on the same batches: MSE, Adam, learning rate linear to 0, fresh inputs.

    ``losses`` are those of the last step, by size.
    """

    def __init__(
        self,
        world: World,
        neurons: Sequence[int],
        *,
        steps: int,
        batch: int,
        lr: float,
        seed: int,
        positive_weight: float = 1.0,
    ) -> None:
        source = generator(seed, WEIGHTS)
        pairs = world.pairs.shape[1]
        weights: dict[str, Tensor] = {}
        for d in neurons:
            weights[f"inward.{d}"] = torch.randn(world.bits, d, generator=source) / math.sqrt(world.active)
            weights[f"bias.{d}"] = torch.zeros(d)
            weights[f"outward.{d}"] = torch.randn(d, pairs, generator=source) / d
            weights[f"offset.{d}"] = torch.zeros(pairs)
        for tensor in weights.values():
            tensor.requires_grad_()
        super().__init__(weights, torch.optim.Adam(weights.values(), lr=lr), {"data": generator(seed, DATA)})
        self.world, self.neurons = world, tuple(neurons)
        self.steps, self.batch, self.lr, self.positive_weight = steps, batch, lr, positive_weight
        self.losses: dict[int, float] = {}

    def circuit(self, neurons: int) -> Circuit:
        """The network of this size as it is now."""
        names = ("inward", "bias", "outward", "offset")
        return Circuit(*(self.weights[f"{name}.{neurons}"].detach() for name in names))

    def train_step(self) -> float:
        """One step of all networks; the mean of their losses before it."""
        assert self.optimiser is not None
        set_lr(self.optimiser, self.lr * (1 - self.step / self.steps))
        inputs = self.world.draw(self.batch, self.generators["data"])
        answers = self.world.ands(inputs)
        for d in self.neurons:
            self.losses[d] = self._gradients(d, inputs, answers)
        self.optimiser.step()
        self.step += 1
        return sum(self.losses.values()) / len(self.losses)

    def _gradients(self, d: int, inputs: Tensor, answers: Tensor) -> float:
        """Set the gradients of the mean weighted squared error, written out by hand: a third of autograd's time."""
        circuit = self.circuit(d)
        hidden = circuit.hidden(inputs)
        error = torch.addmm(circuit.offset, hidden, circuit.outward).sub_(answers.float())
        weighted = torch.where(answers, error * self.positive_weight, error) if self.positive_weight != 1 else error
        loss = float(torch.dot(weighted.flatten(), error.flatten())) / error.numel()
        slope = weighted.mul(2 / error.numel())
        back = (slope @ circuit.outward.T).mul_(hidden > 0)
        found = {
            "inward": inputs.T @ back,
            "bias": back.sum(dim=0),
            "outward": hidden.T @ slope,
            "offset": slope.sum(dim=0),
        }
        for name, gradient in found.items():
            self.weights[f"{name}.{d}"].grad = gradient
        return loss
