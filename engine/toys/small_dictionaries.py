"""Many small TopK dictionaries trained in lockstep on tables of activations, with the trainer of ``train-dictionary``.

What toys ask of dictionaries needs whole families of them (widths × active latents × data × controls), each so small
that it is trained in a second. They take their steps together, so that a movie shows all of them at the same step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from engine.dictionaries.architectures.topk import TopK
from engine.dictionaries.choices import Choices
from engine.dictionaries.trainer import Plan
from engine.dictionaries.trainer import Trainer as DictionaryTrainer
from engine.dictionaries.weights import Moments, Weights
from engine.models import memory
from engine.runs.run import Checkpoint
from engine.toys.training import Trainer, generator

Array: TypeAlias = npt.NDArray[Any]
Start: TypeAlias = Literal["rows", "random"]
JITTER = 0.05  # length of the noise on atoms that begin at data rows, so that two of one row differ
STREAM = 40  # of the run's seed: the first stream of generators that dictionaries take
DEAD_AFTER = 30  # batches without activity


class Unbiased(TopK):
    """A TopK dictionary whose b_dec stays where it began: else it becomes one more atom of a toy."""

    def rates(self) -> dict[str, float]:
        """b_dec does not learn."""
        return {**super().rates(), "b_dec": 0.0}


@dataclass(frozen=True)
class Job:
    """One dictionary to train.

    Attributes:
        data: what it is trained on, in a word that figures show.
        x: (n, d) float32 activations.
        width, k: latents, and how many are active on each activation.
        start: where atoms begin: at ``rows`` of the data, drawn without repetition as far as they go, or at random.
        centre: (d,) taken from the activations before encoding: b_dec at the start; None for zero. FVU is counted
            in mean squared distances from it.
        bias: b_dec learns.
        label: for figures that tell dictionaries apart.
    """

    data: str
    x: Tensor
    width: int
    k: int
    start: Start = "rows"
    centre: Tensor | None = None
    bias: bool = False
    label: str = ""


@dataclass
class Small:
    """A dictionary in training.

    Attributes:
        job: what was asked for.
        scale: by which activations are multiplied, so that their mean squared distance from the centre is 1.
        x: (n, d) scaled activations.
    """

    job: Job
    scale: float
    x: Tensor
    architecture: TopK
    weights: Weights
    trainer: DictionaryTrainer
    variance: float = field(default=1.0)

    def codes(self, x: Tensor | None = None) -> Tensor:
        """Latents (n, width) of raw activations ``x``; of its own data where not given."""
        read = self.x if x is None else x * self.scale
        found: Tensor = self.architecture.encode(self.weights, read).dense()
        return found

    def rebuilt(self, x: Tensor | None = None) -> Tensor:
        """Reconstructions (n, d) in raw units."""
        read = self.x if x is None else x * self.scale
        return self.architecture.reconstruct(self.weights, read) / self.scale

    def fvu(self, codes: Tensor | None = None) -> float:
        """Squared error over squared distance from the centre, both summed over its data."""
        latents = self.codes() if codes is None else codes
        error = latents @ self.weights.decoder + self.weights.b_dec - self.x
        return float(error.double().square().sum() / (len(self.x) * self.variance))

    @property
    def atoms(self) -> Tensor:
        """(width, d) of unit length."""
        return self.weights.decoder


def bytes_of(dictionaries: Iterable[tuple[int, int, int]]) -> int:
    """Memory that training dictionaries of (rows n, d, width) together takes, about.

    Encoder and decoder with two moments and a gradient each stay; codes of all rows of one at a time come and go.
    """
    shapes = list(dictionaries)
    kept = sum(32 * width * d + 4 * n * d for n, d, width in shapes)
    return kept + max((16 * n * width for n, _, width in shapes), default=0)


def demand_memory(dictionaries: Iterable[tuple[int, int, int]]) -> None:
    """Refuse dictionaries of (rows n, d, width) that do not fit. Raises `engine.models.errors.ModelError`."""
    memory.require(
        bytes_of(dictionaries),
        "cpu",
        what="Training these dictionaries",
        way_out="choose smaller widths or fewer of them",
    )


def prepare(job: Job, source: torch.Generator, *, steps: int, lr: float, batch: int) -> Small:
    """Fresh weights for ``job`` and what trains them."""
    n, d = job.x.shape
    centre = torch.zeros(d) if job.centre is None else job.centre
    squares = float((job.x - centre).double().square().sum() / n)
    scale = max(squares, 1e-30) ** -0.5
    x, mean = job.x * scale, centre * scale
    choices = Choices("topk", job.width, min(job.k, job.width))
    moments = Moments(mean, mean, 1.0)
    architecture = TopK(choices, moments) if job.bias else Unbiased(choices, moments)
    weights = architecture.initial(d, d, source)
    if job.start == "rows":
        drawn = torch.cat([torch.randperm(n, generator=source) for _ in range(-(-job.width // n))])[: job.width]
        noise = torch.randn(job.width, d, generator=source) * (JITTER / d**0.5)
        weights.decoder = normalize(normalize(x[drawn] - mean, dim=1) + noise, dim=1)
        weights.encoder = weights.decoder.clone()
    plan = Plan.usual(steps, lr, DEAD_AFTER * min(n, batch))
    return Small(job, scale, x, architecture, weights, DictionaryTrainer(weights, architecture, plan))


class Bench(Trainer):
    """Trains the dictionaries of all ``jobs`` step by step.

    Args:
        jobs: in the order in which figures show them; each draws from a generator of its own.
        steps, lr, batch: of each; a table with no more rows than ``batch`` is the batch.
        carried: tensors that checkpoints hold beside the dictionaries: what the activations were taken from.

    Attributes:
        small: the dictionaries, in the order of the jobs.
        notes: JSON values that checkpoints hold as well.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        steps: int,
        lr: float,
        batch: int,
        seed: int,
        carried: Mapping[str, Tensor] | None = None,
    ) -> None:
        demand_memory((*job.x.shape, job.width) for job in jobs)
        sources = [generator(seed, STREAM + number) for number in range(len(jobs))]
        super().__init__({}, generators={str(n): source for n, source in enumerate(sources)}, extra=carried)
        self.batch = batch
        self.notes: dict[str, Any] = {}
        self._sources = sources
        self.small = [
            prepare(job, source, steps=steps, lr=lr, batch=batch) for job, source in zip(jobs, sources, strict=True)
        ]

    def train_step(self) -> float:
        """One step of each dictionary; their mean FVU on the batch."""
        found = []
        for one, source in zip(self.small, self._sources, strict=True):
            rows = one.x
            if len(rows) > self.batch:
                rows = rows[torch.randint(len(rows), (self.batch,), generator=source)]
            found.append(one.trainer.step(rows).terms["reconstruction"])
        self.step += 1
        return float(np.mean(found))

    def checkpoint(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What `restore` needs, of the dictionaries as well."""
        values, arrays = super().checkpoint()
        states = [one.trainer.state() for one in self.small]
        for number, (_, tensors) in enumerate(states):
            arrays |= {f"dictionary.{number}.{name}": array for name, array in tensors.items()}
        return {**values, **self.notes, "dictionaries": [state for state, _ in states]}, arrays

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on exactly from a checkpoint."""
        super().restore(checkpoint)
        for number, (one, values) in enumerate(zip(self.small, checkpoint.values["dictionaries"], strict=True)):
            head = f"dictionary.{number}."
            arrays = {name.removeprefix(head): a for name, a in checkpoint.arrays.items() if name.startswith(head)}
            one.trainer.restore(values, arrays)


def largest_cosine(atoms: Tensor, directions: Tensor) -> Tensor:
    """Of each of ``directions`` (m, d) its largest cosine with any of ``atoms`` (F, d): (m,)."""
    found: Tensor = (normalize(directions, dim=1) @ normalize(atoms, dim=1).T).amax(dim=1)
    return found


def split_edges(parents: Tensor, children: Tensor, least: float = 0.2) -> tuple[Array, Array]:
    """Which latents of a narrow dictionary the latents of a wider one come from.

    Args:
        parents: (n, F) bool, activity of the narrow dictionary's latents on n activations.
        children: (n, G) bool, of the wider one's on the same activations.
        least: edges of less weight are left out.

    Returns:
        Edges (m, 2) as (parent, child), and their weights P(parent active | child active).
    """
    counts = children.float().sum(dim=0)
    given = (parents.float().T @ children.float()) / counts.clamp_min(1)
    where = (given >= least) & (counts > 0)
    edges: Array = where.nonzero().numpy()
    return edges, given[where].numpy()
