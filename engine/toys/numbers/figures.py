"""The figures of sums: curves, the number line of the embedding, its spectrum, right answers by pair, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Heatmap, Lines, Scatter, Table
from engine.toys import fourier
from engine.toys.modular.figures import ACCURACY, NATS, SHARE, curves

Array: TypeAlias = npt.NDArray[Any]
CONTROL = "The control is a network of its own that learns the same questions with all sums dealt out anew among them."


def accuracy(steps: Array, rows: Mapping[str, Array], pairs: tuple[int, int], guess: float) -> Lines:
    """Accuracy of both networks on training and test pairs."""
    note = (
        f"{pairs[0]:,} pairs trained on, {pairs[1]:,} held out; before the last step at most 1,000 of each are asked. {CONTROL} "
        "Guess: always the most frequent sum."
    )
    return curves("Accuracy", note, ACCURACY, steps, rows, guess=guess)


def losses(steps: Array, rows: Mapping[str, Array], entropy: float) -> Lines:
    """Loss of both networks on training and test pairs."""
    note = f"Mean cross-entropy of the answer, in float64. {CONTROL} Entropy: all sums at their frequencies, without adding."
    return curves("Loss", note, NATS, steps, rows, **{"entropy of sums": entropy})


def spectrum(embedding: Array, shuffled: Array) -> Lines:
    """Spectrum of the number embedding (numbers, d_model) along the numbers; ``shuffled`` (draws, n // 2) is the control."""
    numbers, found = len(embedding), fourier.shares(embedding)
    flat = np.full(len(found), np.nan)
    return Lines(
        title="Fourier spectrum of the number embedding",
        note=f"Share of power of the {numbers} centred embeddings by frequency along the numbers. A straight or bent number line "
        "has it at the lowest frequencies; digits would have it at periods of 10, 5 and 2 numbers, which are "
        f"{numbers / 10:g}, {numbers / 5:g} and {numbers / 2:g} periods. Control: numbers shuffled, mean and range of "
        f"{len(shuffled)} orders. The first frame is the untrained network.",
        x_axis=Axis("Frequency", f"periods per {numbers}"),
        y_axis=SHARE,
        series=("embedding", "numbers shuffled"),
        x=fourier.frequencies(numbers),
        y=np.stack([found, shuffled.mean(0)]).astype(np.float32),
        low=np.stack([flat, shuffled.min(0)]).astype(np.float32),
        high=np.stack([flat, shuffled.max(0)]).astype(np.float32),
    )


def number_line(embedding: Array, mean: Array, components: Array, shares: Array) -> Scatter:
    """The numbers' embeddings (numbers, d_model) on the first ``components`` (m, d_model) of the last checkpoint."""
    scores = (embedding - mean) @ components.T
    names = [f"Component {number + 1} ({share:.0%})" for number, share in enumerate(shares)]
    return Scatter(
        title="The numbers on the principal components of their embedding",
        note=f"{len(embedding)} numbers on the components of the last checkpoint, with their shares of variance there. Colour is "
        "the number: an ordered thread is a number line. The first frame, the untrained network, is the control.",
        x_axis=Axis(names[0], "embedding units"),
        y_axis=Axis(names[1], "embedding units"),
        z_axis=Axis(names[2], "embedding units") if len(names) > 2 else None,
        value_axis=Axis("Number"),
        points=scores[:, :3].astype(np.float32),
        value=np.arange(len(embedding), dtype=np.float32),
        label=np.arange(len(embedding)).astype(str),
    )


def right_by_pair(probability: Array, test_rows: Array) -> Heatmap:
    """Probability (numbers, numbers) of the right sum for each pair (a, b)."""
    numbers = len(probability)
    held = np.asarray(probability).ravel()[test_rows]
    return Heatmap(
        title="Probability of the sum, by pair",
        note=f"All {numbers**2:,} pairs, trained on or held out; held out: n = {len(held):,}, mean {held.mean():.3f}, 10 % "
        f"below {np.quantile(held, 0.1):.3f}. A guess at the sums' frequencies would be about 1 / {numbers} where it is best.",
        x_axis=Axis("b"),
        y_axis=Axis("a"),
        value_axis=Axis("Probability of a + b"),
        values=np.asarray(probability, dtype=np.float32),
        x=np.arange(numbers),
        y=np.arange(numbers),
        origin="lower",
        levels=(0.0, 1.0),
    )


def table(rows: Sequence[tuple[str, float, float, float, float, float]], pairs: tuple[int, int]) -> Table:
    """What came out, by network."""
    axes = (
        Axis("Network"), Axis("Train accuracy"), Axis("Test accuracy"), Axis("… standard error"),
        Axis("Train loss", "nats"), Axis("Test loss", "nats"),
    )  # fmt: skip
    return Table(
        title="Sums and their control",
        note=f"At the last step, all {pairs[0]:,} training and {pairs[1]:,} held-out pairs; untrained: at most 1,000 of each. "
        f"{CONTROL} The standard error is that of a share of independent pairs.",
        axes=axes,
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )
