"""Several networks for modular addition trained side by side: what `grokfast-comparison` and `label-noise` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Lines
from engine.toys.modular.figures import ACCURACY, STEP

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.modular.training import ModularTrainer, Setting

Array: TypeAlias = npt.NDArray[Any]


def numbers(text: str, name: str, low: float, high: float) -> tuple[float, ...]:
    """The numbers of "0, 0.5, 2", rising; 0, the control, is always among them.

    Raises:
        ValueError: one is no number or out of bounds, or there are more than ten; the sentence says which.
    """
    found = {0.0}
    for word in text.replace(";", ",").split(","):
        if not word.strip():
            continue
        try:
            value = float(word)
        except ValueError:
            raise ValueError(f"“{word.strip()}” in {name} is no number; write for example 0, 0.5, 2") from None
        if not low <= value <= high:
            raise ValueError(f"{value:g} in {name} is not between {low:g} and {high:g}")
        found.add(value)
    if not 2 <= len(found) <= 10:
        raise ValueError(f"{name}={text!r} has to name one to nine values besides 0")
    return tuple(sorted(found))


class Sweep:
    """Networks of some ``values`` of one setting, each with the same ``seeds``.

    Attributes:
        trainer: its instances are the seeds of the first value, then those of the second, and so on.
    """

    def __init__(
        self,
        make: Callable[[list[Setting]], ModularTrainer],
        setting: Callable[[int, float], Setting],
        values: Sequence[float],
        seeds: Sequence[int],
    ) -> None:
        self.values, self.seeds = tuple(values), tuple(seeds)
        self.trainer = make([setting(seed, value) for value in values for seed in seeds])

    def grouped(self, column: str) -> Array:
        """What was measured of ``column``, (steps, values, seeds)."""
        return self.trainer.curve(column).reshape(-1, len(self.values), len(self.seeds))

    def passed(self, column: str) -> Array:
        """Step at which ``column`` exceeds 99 % for good, (values, seeds); NaN where it does not."""
        found = [np.nan if step is None else step for step in self.trainer.passed(column)]
        return np.array(found, float).reshape(len(self.values), len(self.seeds))

    def ended(self, column: str) -> Array:
        """``column`` at the last step, (values, seeds)."""
        found: Array = self.grouped(column)[self.trainer.at.index(self.trainer.step)]
        return found

    def measure(self, step: int, frames: Sequence[int], names: tuple[str, ...], title: str, run: Run) -> None:
        """Log the test accuracy of the first and the last value; at a frame show all of them."""
        self.trainer.measure(step)
        mean = self.grouped("test_accuracy")[self.trainer.at.index(step)].mean(1)
        run.log(step, control_accuracy=float(mean[0]), test_accuracy=float(mean[-1]))
        if step in frames:
            run.show("accuracy", self.figure(names, title))

    def figure(self, names: tuple[str, ...], title: str) -> Lines:
        """Test accuracy over steps, one curve per value, and the control's training accuracy."""
        steps = np.array(self.trainer.at)
        later = steps > 0
        test = self.grouped("test_accuracy")[later]
        train = self.grouped("train_accuracy")[later][:, :1]
        both = np.concatenate([test, train], axis=1)
        many = len(self.seeds) > 1
        pairs = self.trainer.splits[0]
        spread = ", mean; the band is from the lowest to the highest" if many else ""
        return Lines(
            title=title,
            note=f"n = {len(self.seeds)} seed{'s' if many else ''} per curve{spread}; {len(pairs.train):,} pairs trained on, "
            f"{len(pairs.test):,} tested. One seed has the same first weights and split in all curves. Controls: "
            f"{names[0]}, and chance, 1/p.",
            x_axis=STEP,
            y_axis=ACCURACY,
            series=(*(f"test, {name}" for name in names), f"train, {names[0]}"),
            x=steps[later],
            y=both.mean(2).T,
            low=both.min(2).T if many else None,
            high=both.max(2).T if many else None,
            reference={"chance": 1 / self.trainer.plan.shape.p},
        )


def spread(values: Array) -> float:
    """Standard deviation over seeds; NaN for one."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def axis(name: str) -> Axis:
    """A column of a table: "Seed", or with its unit "Noise (%)"."""
    label, _, unit = name.partition(" (")
    return Axis(label, unit.rstrip(")"))
