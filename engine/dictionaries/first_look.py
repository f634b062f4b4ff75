"""What is measured on the activations captured before the first step: means, variance, and the factors of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.buffer import Buffer
from engine.dictionaries.metrics import Variation
from engine.dictionaries.sources import Source, demand_variation
from engine.dictionaries.training_parameters import Scaling
from engine.dictionaries.weights import Moments
from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
FAR = 10  # activations most distant from the mean
MASSIVE = 0.2  # share of variance in these from which on that is said


@dataclass(frozen=True)
class Side:
    """Of the input or of the target.

    Attributes:
        mean: (D,) float64.
        variance: mean ‖x − mean‖².
        scale: factor on activations in training.
    """

    mean: Tensor
    variance: float
    scale: float

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Values and arrays from which `restored` makes it again, bit for bit."""
        return {"variance": self.variance.hex(), "scale": self.scale.hex()}, {"mean": self.mean.cpu().numpy()}

    @classmethod
    def restored(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Side:
        """What `state` described."""
        mean = torch.from_numpy(np.array(arrays["mean"]))
        return cls(mean, float.fromhex(values["variance"]), float.fromhex(values["scale"]))


@dataclass(frozen=True)
class FirstLook:
    """Both sides; of an autoencoder they are the same.

    They stay as they are throughout a run, so that a number of the loss means the same from first to last step.
    """

    inputs: Side
    targets: Side

    @property
    def unit(self) -> float:
        """Mean ‖y − mean‖² of the scaled targets: what loss and FVU are counted in."""
        return self.targets.variance * self.targets.scale**2

    def moments(self, device: torch.device) -> Moments:
        """What an architecture begins from, in scaled units."""
        mean_in = (self.inputs.mean * self.inputs.scale).float().to(device)
        if self.targets is self.inputs:
            return Moments(mean_in, mean_in, self.unit)
        return Moments(mean_in, (self.targets.mean * self.targets.scale).float().to(device), self.unit)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Values and arrays from which `restored` makes it again, bit for bit."""
        values, arrays = self.inputs.state()
        if self.targets is self.inputs:
            return {"in": values}, {f"in-{name}": array for name, array in arrays.items()}
        values_out, arrays_out = self.targets.state()
        arrays = {f"in-{name}": array for name, array in arrays.items()}
        return {"in": values, "out": values_out}, arrays | {f"out-{name}": a for name, a in arrays_out.items()}

    @classmethod
    def restored(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> FirstLook:
        """What `state` described."""
        inputs = Side.restored(values["in"], {"mean": arrays["in-mean"]})
        if "out" not in values:
            return cls(inputs, inputs)
        return cls(inputs, Side.restored(values["out"], {"mean": arrays["out-mean"]}))


def look(buffer: Buffer, source: Source, scaling: Scaling, run: Run) -> FirstLook:
    """Measure the activations that ``buffer`` holds, say what is odd about them, and choose the factors.

    Raises:
        DictionaryError: all of them are equal.
    """
    names = source.name.split(" → ")
    sides = []
    for number, name in enumerate(names if source.paired else [source.name]):
        rows = [pair[number] for pair in buffer.chunks()]
        tensors = [some for some in rows if some is not None]
        warning = demand_variation(tensors, tensors[0].shape[1], name)
        if warning:
            run.say(warning, "warning")
        side, far = _measured(tensors, scaling)
        if far > MASSIVE:
            run.say(
                f"The {FAR} most distant of {len(buffer):,} activations of {name} hold {far:.0%} of the variance, so FVU "
                "says mostly how well those are rebuilt.",
                "warning",
            )
        sides.append(side)
        suffix = "_out" if number else ""
        run.fact(f"scale{suffix}", side.scale)
        run.fact(f"variance{suffix}", side.variance)
        run.fact(f"variance_share_of_10_most_distant{suffix}", far)
    return FirstLook(sides[0], sides[-1])


def _measured(rows: list[Tensor], scaling: Scaling) -> tuple[Side, float]:
    """Mean, variance and factor of activations ``rows`` [(n, D)], and the variance's share of the farthest."""
    variation = Variation(rows[0].double().mean(dim=0))
    for some in rows:
        variation.add(some)
    mean, count = variation.mean, variation.count
    distances = torch.cat([(some.double() - mean.to(some.device)).norm(dim=1).cpu() for some in rows])
    far = float(distances.sort(descending=True).values[:FAR].square().sum()) / variation.total
    # The mean distance by default and not its square: a few massive activations must not decide the size of others.
    sizes = {
        "distance": lambda: float(distances.sum()) / count,
        "norm": lambda: sum(float(some.double().norm(dim=1).sum()) for some in rows) / count,
        "rms": lambda: float(np.sqrt(sum(float(some.double().square().sum()) for some in rows) / count)),
    }
    scale = float(np.sqrt(len(mean))) / sizes[scaling]() if scaling in sizes else 1.0
    return Side(mean.cpu(), variation.per_activation, scale), far
