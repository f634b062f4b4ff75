"""What a dictionary's training shows: live numbers over a stretch of steps, figures, final tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.dictionaries.measures import MEASURES
from engine.dictionaries.metrics import Recovery, density_histogram
from engine.dictionaries.quality import Quality
from engine.dictionaries.trainer import Report
from engine.figures.kinds import Axis, Heatmap, Histogram, Table

Array: TypeAlias = npt.NDArray[Any]


@dataclass
class Window:
    """Sums over the steps since the last metric row; ``since`` is when it began, in seconds of the run."""

    steps: int = 0
    activations: int = 0
    loss: float = 0.0
    squared_error: float = 0.0
    active: int = 0
    since: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)

    def add(self, step: Report, batch: int) -> None:
        """Take in one step over ``batch`` activations."""
        self.steps += 1
        self.activations += batch
        self.loss += step.loss
        self.squared_error += step.squared_error
        self.active += step.active
        for name, term in step.terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + term

    def row(self, variance: float, seconds: float) -> dict[str, float]:
        """The metric row: loss and its terms, fvu, l0 and rate.

        Args:
            variance: mean ‖y − mean‖² of activations, in the units of the squared error.
            seconds: of the run, now.
        """
        return {
            "loss": self.loss / self.steps,
            "fvu": self.squared_error / (self.activations * variance),
            "l0": self.active / self.activations,
            "rate": self.activations / max(seconds - self.since, 1e-9),
        } | {name: term / self.steps for name, term in self.terms.items()}


def density_figure(density: Array, when: str) -> Histogram:
    """Histogram of the logarithm of how often latents are active; ``density`` (F,), ``when`` in words."""
    edges, counts, never = density_histogram(density)
    return Histogram(
        title="Activation density",
        note=f"{len(density):,} latents {when}; {never:,} of them never active and in no bin. "
        "Density: share of activations on which a latent is active.",
        x_axis=Axis("Activation density", "log₁₀ of share"),
        y_axis=Axis("Latents"),
        groups=("latents",),
        edges=edges,
        counts=counts[None, :],
    )


class DensityHistory:
    """How the histogram of activation densities changes over training: one column per stretch of steps.

    Bins are quarters of a power of ten, from one in a million to always; what is rarer counts to the lowest.
    """

    EDGES = np.arange(-6.0, 0.01, 0.25)

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._columns: list[Array] = []
        self._latest: Array = np.zeros(0)

    def add(self, step: int, density: Array) -> None:
        """Take in the density (F,) of the stretch that ended at ``step``."""
        alive = np.log10(density[density > 0]).clip(self.EDGES[0], self.EDGES[-1])
        counts, _ = np.histogram(alive, bins=self.EDGES)
        self._steps.append(step)
        self._latest = density
        self._columns.append(np.concatenate([[len(density) - len(alive)], counts]).astype(np.float64))

    @property
    def latest(self) -> Array:
        """Density (F,) of the last stretch."""
        return self._latest

    def figure(self) -> Heatmap:
        """Latents by density (rows, the lowest holds those that were silent) and step (columns)."""
        middles = (self.EDGES[:-1] + self.EDGES[1:]) / 2
        return Heatmap(
            title="Activation density over training",
            note=f"n = {int(self._columns[-1].sum()):,} latents in each column. Density: share of the activations of a "
            "stretch on which a latent was active. The lowest row holds the latents that were silent throughout it.",
            x_axis=Axis("Step"),
            y_axis=Axis("Activation density", "log₁₀ of share"),
            value_axis=Axis("Latents"),
            values=np.stack(self._columns, axis=1),
            x=np.asarray(self._steps),
            y=np.asarray(["silent", *(f"{middle:.2f}" for middle in middles)]),
            origin="lower",
        )

    def state(self) -> dict[str, Array]:
        """Arrays from which `restore` goes on."""
        return {
            "steps": np.asarray(self._steps, dtype=np.int64),
            "columns": np.asarray(self._columns),
            "latest": self._latest,
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go on from what `state` gave."""
        self._steps = [int(step) for step in arrays["steps"]]
        self._columns = list(np.array(arrays["columns"]))
        self._latest = np.array(arrays["latest"])


def norms_figure(norms: Array) -> Histogram:
    """Histogram of the lengths of atoms ``norms`` (F,), in units of the scaled activations."""
    low, high = float(norms.min()), float(norms.max())
    room = max(0.01, 0.02 * (high - low))
    counts, edges = np.histogram(norms, bins=40, range=(low - room, high + room))
    return Histogram(
        title="Length of atoms",
        note=f"n = {len(norms):,} latents; mean {norms.mean():.3g}, standard deviation {norms.std():.2g}. Length: the "
        "Euclidean norm of a latent's row of W_dec, in units of the scaled activations.",
        x_axis=Axis("Length of atom"),
        y_axis=Axis("Latents"),
        groups=("latents",),
        edges=edges,
        counts=counts[None, :].astype(np.float64),
    )


_NATS = "nats/token"
_CE = (
    ("clean", "CE clean", _NATS, "Cross entropy of the model as it is"),
    ("spliced", "CE spliced", _NATS, "With activations replaced by their reconstruction"),
    ("zero", "CE zero ablation", _NATS, "With activations replaced by zero"),
    ("mean", "CE mean ablation", _NATS, "With activations replaced by their mean over the training text"),
    ("kl", "KL", _NATS, "KL(clean ‖ spliced) of the predictions"),
    ("ce_recovered", "CE recovered", "share", "(zero − spliced) / (zero − clean)"),
    ("ce_recovered_mean", "CE recovered, mean ablation", "share", "(mean − spliced) / (mean − clean)"),
)


def ce_table(recovery: Recovery, seed: int) -> Table:
    """Cross entropies and what the dictionary recovers, with bootstrap intervals over contexts."""
    values, intervals, deviations = recovery.values(), recovery.intervals(seed), recovery.deviations()
    rows = [(label, values[name], *intervals[name], deviations[name], unit, text) for name, label, unit, text in _CE]
    axes = ("Quantity", "Value", "Low", "High", "Deviation", "Unit", "Definition")
    units = ("", "", "95 % interval", "95 % interval", "over contexts", "", "")
    return Table(
        title="Cross entropy with the dictionary in place",
        note=f"n = {int(recovery.tokens.sum()):,} predictions in {len(recovery.tokens):,} contexts that were held out "
        "of training; intervals from 1,000 resamples of contexts. Positions left out of training (BOS) keep their own "
        "activation.",
        axes=tuple(Axis(label, unit) for label, unit in zip(axes, units, strict=True)),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def quality_table(quality: Quality) -> Table:
    """Reconstruction, sparsity and unused latents on the held-out contexts, the peers' variants last."""
    values = quality.values()
    named = {name: measure for name, measure in MEASURES.items() if name in values}
    ordered = sorted(named.items(), key=lambda one: one[1].legacy)
    rows = [(entry.label, values[name], entry.unit, entry.definition, entry.source) for name, entry in ordered]
    return Table(
        title="The dictionary on held-out contexts",
        note=f"n = {quality.count:,} activations. A latent that is rare is not active here and yet not dead. The last "
        f"{sum(entry.legacy for entry in named.values())} rows are other libraries' variants, for comparison with "
        "published numbers only: they depend on how activations are cut into batches, or forgive offsets.",
        axes=(Axis("Quantity"), Axis("Value"), Axis("Unit"), Axis("Definition"), Axis("Source")),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def final_numbers(recovery: Recovery | None, quality: Quality) -> dict[str, float]:
    """The metrics that are measured once, at the end."""
    values = quality.values()
    found = {"fvu_held_out": values["fvu"], "l0_held_out": values["l0"]}
    if recovery is None:
        return found
    return found | {
        "ce_recovered": recovery.ce_recovered,
        "ce_recovered_mean": recovery.ce_recovered_mean,
        "kl": recovery.values()["kl"],
    }
