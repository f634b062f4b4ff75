"""Refusing activations that are not finite, with the token that they belong to."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.errors import ModelError

Array: TypeAlias = npt.NDArray[Any]


def demand_finite(activations: Tensor, ids: Array, numbers: Array, counted: Array, hook: str, tokenizer: Any) -> None:
    """Raise unless all activations that count are finite.

    Args:
        activations: (batch, position, width).
        ids: (batch, position) token ids.
        numbers: (batch,) the contexts' numbers in the text, for the sentence.
        counted: (batch, position) bool, where anything but a finite number is refused.

    Raises:
        ModelError: names the first token with NaN or infinity, its context and position.
    """
    good = torch.isfinite(activations).all(dim=-1).cpu().numpy() | ~counted
    if good.all():
        return
    row, position = (int(place) for place in np.argwhere(~good)[0])
    values = activations[row, position]
    found = "NaN" if bool(torch.isnan(values).any()) else "infinity"
    token = tokenizer.decode([int(ids[row, position])])
    raise ModelError(
        f"The activation of {hook} holds {found} at the token “{token}” (id {int(ids[row, position])}), position "
        f"{position} of context {int(numbers[row])}; open the model with dtype float32, or leave that text out."
    )
