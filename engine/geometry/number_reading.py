"""Activations at one position of each prompt, read once for prompts that are the same up to there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.models.capture import capture

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
AT_ONCE = 400_000_000  # bytes of activations that are kept at a time
BATCH = 64  # prompts in one forward pass


@dataclass(frozen=True)
class Prefixes:
    """The different beginnings of prompts: no position sees what follows it, so what follows need not be run.

    Attributes:
        ids: (different, length) tokens, padded on the right; positions: (different,) of the last one.
        first: (different,) row of the prompts that has it first.
        index: (rows,) which of them each prompt begins with.
    """

    ids: Array
    positions: Array
    first: Array
    index: Array

    @classmethod
    def of(cls, ids: Array, positions: Array) -> Prefixes:
        """Of prompts ``ids`` (rows, length) up to ``positions`` (rows,), those included."""
        known: dict[bytes, int] = {}
        first: list[int] = []
        index = np.empty(len(ids), dtype=np.int64)
        for row, last in enumerate(positions.tolist()):
            number = known.setdefault(ids[row, : last + 1].tobytes(), len(known))
            if number == len(first):
                first.append(row)
            index[row] = number
        kept = np.array(first, dtype=np.int64)
        longest = int(positions.max()) + 1
        return cls(ids[kept, :longest], positions[kept], kept, index)


def read_prefixes(
    model: OpenModel, prompts: Prefixes, hooks: Sequence[str], run: Run | None = None
) -> Iterator[tuple[str, Array]]:
    """Activations (different, width) float32 at each of ``hooks``, in their order; as many at a time as memory holds.

    Raises:
        ModelError: there is no such hook point, it has no vector per token, or the prompts are too long.
    """
    rows, positions = len(prompts.ids), prompts.positions
    widest = max(model.check_hook(hook) for hook in hooks)
    together = max(AT_ONCE // (4 * widest * rows), 1)
    for first in range(0, len(hooks), together):
        part = list(hooks[first : first + together])
        kept = {hook: np.empty((rows, model.check_hook(hook)), np.float32) for hook in part}
        for chosen, activations in capture(model, prompts.ids, part, batch=BATCH, run=run):
            places = positions[chosen]
            for hook, found in activations.items():
                kept[hook][chosen] = found[np.arange(len(places)), places].cpu().numpy()
        for hook in part:
            yield hook, kept.pop(hook)
