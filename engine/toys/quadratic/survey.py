"""What is measured of a bilinear layer at one step of its training, for it and its two controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.toys.quadratic import layer as closed
from engine.toys.quadratic.worlds import Samples, World

if TYPE_CHECKING:
    from engine.toys.quadratic.training import BilinearTrainer

Array: TypeAlias = npt.NDArray[Any]
LAYERS = ("trained", "shuffled targets", "untrained")
KEPT = 20  # eigenvectors up to which an output is put together again


@dataclass(frozen=True)
class Measured:
    """One layer in closed form.

    Attributes:
        matrices: (outputs, inputs, inputs); those without products of bit and constant in the boolean world.
        raw: as the weights give them.
        spectrum: of ``matrices``.
        score: share of held-out pictures named right, or of the targets' variance explained.
        truncated: that score with 0, 1, … eigenvectors of each output kept.
        tensor: singular values of the whole layer.
    """

    matrices: Array
    raw: Array
    spectrum: closed.Spectrum
    score: float
    truncated: Array
    tensor: Array


class Survey:
    """Measures a trainer's layers; the untrained control is the trainer as it is when the survey is made.

    Attributes:
        size: eigenvalues that an output can have: the narrower of input and embedding.
    """

    def __init__(self, world: World, trainer: BilinearTrainer) -> None:
        self.world, self.samples, self._trainer = world, trainer.samples, trainer
        inputs = self.samples.x.shape[1]
        self.size = min(inputs - (world == "boolean"), trainer.plan.embed or inputs)
        self._x = self.samples.held_x.astype(np.float64)
        self._untrained: Measured | None = None

    def keep_untrained(self, matrices: Array) -> None:
        """Take ``matrices``, those of the initial weights, as the control."""
        self._untrained = self.measure(matrices)

    def layers(self) -> list[Measured]:
        """The layer, the one on shuffled targets and the untrained one."""
        assert self._untrained is not None
        return [self.measure(self._trainer.matrices(0)), self.measure(self._trainer.matrices(1)), self._untrained]

    def measure(self, raw: Array) -> Measured:
        """One layer from its raw matrices."""
        matrices = closed.canonical(raw) if self.world == "boolean" else raw
        spectrum = closed.spectrum(matrices)
        truncated = np.array([self.score(said) for said in spectrum.kept(self._x, min(KEPT, len(matrices[0])))])
        score = self.score(closed.forms(matrices, self._x))
        return Measured(matrices, raw, spectrum, score, truncated, closed.tensor_spectrum(matrices)[0])

    def score(self, said: Array) -> float:
        """Share of held-out samples named right, or 1 - squared error / variance of the held-out targets."""
        y = self.samples.held_y
        if self.samples.classes:
            return float((said.argmax(axis=1) == y).mean())
        return float(1 - ((said - y) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum())

    def exactness(self) -> float:
        """The largest difference between the network's outputs and ``x^T Q x`` on the held-out samples."""
        said = self._trainer.said(self.samples.held_x)
        return max(
            float(np.abs(said[layer] - closed.forms(self._trainer.matrices(layer), self._x)).max()) for layer in (0, 1)
        )

    def error(self, layer: Measured) -> float:
        """The largest difference of a monomial's coefficient from theory; NaN where there is none."""
        if self.samples.theory is None:
            return float("nan")
        difference = closed.coefficients(layer.matrices) - closed.coefficients(self.samples.theory)
        return float(np.abs(difference).max())


def class_means(samples: Samples) -> Array:
    """The mean held-out picture of each class: (classes, inputs)."""
    return np.stack([samples.held_x[samples.held_y == k].mean(axis=0) for k in range(len(samples.outputs))])
