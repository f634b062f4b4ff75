"""What a dictionary's training shows: live numbers over a stretch of steps, figures, final tables."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.dictionaries.metrics import Recovery, density_histogram
from engine.dictionaries.splice import Evaluation
from engine.dictionaries.trainer import Report
from engine.figures.kinds import Axis, Histogram, Table

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

    def add(self, step: Report, batch: int) -> None:
        """Take in one step over ``batch`` activations."""
        self.steps += 1
        self.activations += batch
        self.loss += step.loss
        self.squared_error += step.squared_error
        self.active += step.active

    def close(self, variance: float, seconds: float) -> dict[str, float]:
        """The row's numbers: loss, fvu, l0 and rate; the next stretch begins.

        Args:
            variance: mean ‖x − mean‖² of activations, in the units of the squared error.
            seconds: of the run, now.
        """
        row = {
            "loss": self.loss / self.steps,
            "fvu": self.squared_error / (self.activations * variance),
            "l0": self.active / self.activations,
            "rate": self.activations / max(seconds - self.since, 1e-9),
        }
        for entry in fields(self):
            setattr(self, entry.name, entry.default)
        self.since = seconds
        return row


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


def quality_table(found: Evaluation) -> Table:
    """Reconstruction, sparsity and unused latents on the held-out contexts."""
    never = int(np.count_nonzero(found.active == 0))
    rows = (
        ("FVU", found.fit.fvu, "Σ‖x − x′‖² / Σ‖x − mean‖²"),
        ("Explained variance", 1 - found.fit.fvu, "1 − FVU"),
        ("L0", found.l0, "Active latents per activation, mean"),
        ("Never active", never / len(found.active), "Share of latents active on none of these activations"),
    )
    return Table(
        title="The dictionary on held-out contexts",
        note=f"n = {found.fit.variation.count:,} activations. A latent that is rare is not active here and yet not dead.",
        axes=(Axis("Quantity"), Axis("Value"), Axis("Definition")),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def final_numbers(found: Evaluation) -> dict[str, float]:
    """The metrics that are measured once, at the end."""
    recovery = found.recovery
    return {
        "ce_recovered": recovery.ce_recovered,
        "ce_recovered_mean": recovery.ce_recovered_mean,
        "kl": recovery.values()["kl"],
        "fvu_held_out": found.fit.fvu,
        "l0_held_out": found.l0,
    }
