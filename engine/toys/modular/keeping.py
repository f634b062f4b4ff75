"""Putting a network for modular addition into the session, with its data and the sums planted in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from engine.text.toys import ToyData
from engine.toys.keeping import keep_toy
from engine.toys.modular.analysis import by_sum
from engine.toys.modular.network import Shape, contexts, native, over_pairs, sums

if TYPE_CHECKING:
    from engine.runs.run import Run

HOOK = "blocks.0.hook_resid_post"


def keep_network(run: Run, shape: Shape, theta: Tensor, **attributes: Any) -> None:
    """Keep ``theta`` (parameters,) as ``toy:RUN``, and all its contexts [a, b, "="] as the text ``toy:RUN``.

    Features are the p sums, of which one is active at "=", the only position that counts. Their directions at
    `HOOK` are measured: the mean residual stream at "=" over the pairs of a sum, minus that over all pairs.
    """
    p = shape.p
    with torch.no_grad():
        means = by_sum(over_pairs(shape, theta[None]).final[0])
    directions = np.zeros((p, shape.d_model + 1), np.float32)
    directions[:, :-1] = (means - means.mean(0)).numpy()
    names = tuple(f"a + b = {c}" for c in range(p))
    features = np.zeros((p * p, 3, p), np.uint8)
    features[np.arange(p * p), 2, sums(p).numpy()] = 1
    counted = np.zeros((p * p, 3), bool)
    counted[:, 2] = True
    keep_toy(
        run,
        native(shape, theta),
        ToyData(contexts(p), counted, features, names),
        title=f"Modular addition, p = {p}",
        planted={HOOK: (names, directions)},
        p=p,
        **attributes,
    )
