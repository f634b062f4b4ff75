"""Keeping one instance of an ensemble: a tied ReLU autoencoder as a model of the session, with its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.toys.tms.measures import measure

if TYPE_CHECKING:
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
SAMPLES, CONTEXT = 4_096, 64
HOOK = "blocks.0.hook_hidden"


def keep_autoencoder(run: Run, weights: Array, bias: Array, inputs: Array, names: Sequence[str], *, title: str) -> None:
    """Keep ``h = W x``, ``x' = ReLU(Wᵀ h + b)`` as ``toy:RUN``.

    What is planted at the hook point of h are the columns of W whose norm is above 0.5: no other feature is stored.

    Args:
        weights: W (hidden, features);  bias: (features,).
        inputs: (samples, features), a multiple of `CONTEXT` samples like those it was trained on.
        names: of the features.
    """
    from engine.models.network import Network, Stage
    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy

    stages = [
        Stage(name="hidden", weight="W", transpose=True),
        Stage(name="out", weight="W", bias="b", activation="relu"),
    ]
    stored = np.flatnonzero(measure(weights).represented)
    data = ToyData(
        tokens=np.arange(len(inputs), dtype=np.int32).reshape(-1, CONTEXT),
        features=np.asarray(inputs, dtype=np.float16).reshape(-1, CONTEXT, len(names)),
        names=tuple(names),
    )
    network = Network(stages, {"W": weights, "b": bias}, inputs, names)
    planted = {HOOK: (tuple(names[int(feature)] for feature in stored), np.asarray(weights).T[stored])}
    keep_toy(run, network, data, title=title, planted=planted)
