"""The figures of sums of weekdays: accuracies, spectra, circles of days, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Lines, Scatter, Table
from engine.toys import fourier
from engine.toys.modular.figures import ACCURACY, NATS, SHARE, curves

Array: TypeAlias = npt.NDArray[Any]
CHANCE = 1 / 7


def accuracy(steps: Array, rows: Mapping[str, Array], pairs: tuple[int, int]) -> Lines:
    """Accuracy of both networks on training and test pairs."""
    note = (
        f"{pairs[0]} pairs of a day and a number trained on, in three sentences each or as symbols; {pairs[1]} pairs held out, "
        "in all sentences. Symbols (“day number =”) are the control for the language, chance is 1/7."
    )
    return curves("Accuracy, in words and in symbols", note, ACCURACY, steps, rows, chance=CHANCE)


def losses(steps: Array, rows: Mapping[str, Array]) -> Lines:
    """Loss of both networks on training and test pairs."""
    note = (
        "Mean cross-entropy of the answer among the seven days, in float64. Controls: symbols, and log 7 for guessing."
    )
    return curves("Loss, in words and in symbols", note, NATS, steps, rows, **{"log 7": float(np.log(7))})


def number_spectrum(embeddings: Mapping[str, Array], shuffled: Array) -> Lines:
    """Spectrum of the embeddings (70, d_model) of numbers by network; ``shuffled`` (draws, 35) is the control."""
    flat = [np.full(shuffled.shape[1], np.nan)] * len(embeddings)
    found = [fourier.shares(table) for table in embeddings.values()]
    return Lines(
        title="Fourier spectrum of the number words",
        note="Share of power of the 70 numbers' centred embeddings. A network that counts in weeks has it at 10, 20 and 30 "
        "periods per 70: periods of 7, 3.5 and 2.33 days. Control: numbers of the sentences shuffled, mean and range "
        f"of {len(shuffled)} orders. The first frame is the untrained network.",
        x_axis=Axis("Frequency", "periods per 70"),
        y_axis=SHARE,
        series=(*embeddings, "numbers shuffled"),
        x=np.arange(1, shuffled.shape[1] + 1),
        y=np.stack([*found, shuffled.mean(0)]).astype(np.float32),
        low=np.stack([*flat, shuffled.min(0)]).astype(np.float32),
        high=np.stack([*flat, shuffled.max(0)]).astype(np.float32),
    )


def circle(days: Array, numbers: Array, directions: Array, k: int, names: Sequence[str]) -> Scatter:
    """Days (7, d_model) and numbers (70, d_model) in the plane in which the last numbers follow remainder and k."""

    def seen(table: Array) -> Array:
        return np.asarray((table - table.mean(0)) @ directions.T)

    remainders = np.arange(len(numbers)) % 7
    return Scatter(
        title="Numbers and days in the plane of the week",
        note=f"Sentences: embeddings of 70 numbers and 7 days, each centred, in the plane of the numbers' "
        f"{10 * k} periods per 70 in the last checkpoint. Equal colours together: the network sees only the remainder of 7. "
        "The first frame, the untrained network, is the control.",
        x_axis=Axis("Cosine direction", "embedding units"),
        y_axis=Axis("Sine direction", "embedding units"),
        value_axis=Axis("Number mod 7; days from Monday = 0"),
        points=np.concatenate([seen(numbers), seen(days)]).astype(np.float32),
        value=np.concatenate([remainders, np.arange(7)]).astype(np.float32),
        label=np.array([*map(str, range(len(numbers))), *names]),
    )


def table(rows: Sequence[tuple[str, float, float, float, float, float, float, float]], n: int, chance: float) -> Table:
    """What came out, by network."""
    names = ("Network", "Train accuracy", "Test accuracy", "… standard error", "Test loss (nats)", "Train above 99 % (step)",
             "Test above 90 % (step)", "Numbers: power in weeks")  # fmt: skip
    return Table(
        title="In words and in symbols",
        note=f"At the last step; test: n = {n} held-out pairs. Steps: the first from which on two checks in a row exceed the "
        "bound, missing where none does. Power in weeks: share of the number embeddings' variance that the remainder of 7 "
        f"explains; {chance:.3f} for shuffled numbers. Controls: symbols, and the untrained network.",
        axes=tuple(Axis(*_parted(name)) for name in names),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def days_table(shares: Mapping[str, Array]) -> Table:
    """Spectrum of the seven days' embeddings, by network."""
    return Table(
        title="Fourier spectrum of the days",
        note="Share of power of the seven days' centred embeddings at k periods a week; 1/3 each is no preference. Controls: "
        "symbols, the untrained network, and days shuffled (mean of 20 orders).",
        axes=(Axis("Periods a week"), *(Axis(name) for name in shares)),
        columns=(np.arange(1, 4), *shares.values()),
    )


def _parted(name: str) -> tuple[str, str]:
    label, _, unit = name.partition(" (")
    return label, unit.rstrip(")")


def by_template(steps: Array, rows: Mapping[str, Array], n: int) -> Lines:
    """Test accuracy of each sentence."""
    note = f"n = {n} held-out pairs per curve; D is a day, N a number. Controls: symbols, and chance, 1/7."
    return curves("Test accuracy by sentence", note, ACCURACY, steps, rows, chance=CHANCE)
