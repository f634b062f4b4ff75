"""The dictionary in its one neutral form: what every architecture is saved as and read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.sparse import Encoder, Latents, decode

Array: TypeAlias = npt.NDArray[Any]
TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec")


@dataclass(frozen=True)
class DictionaryConfig:
    """What a saved dictionary is, beside its tensors. Widths are those of the activations it reads and writes.

    Attributes:
        architecture: how it was trained (``topk``).
        d_in, d_out: width of what it reads and of what it reconstructs.
        width: latents.
        k: active latents per activation, None where that is not fixed.
        centre: b_dec is taken from the input before encoding.
        activation: what turns pre-activations into latents (``topk``).
        hook_in, hook_out: hook points it reads and reconstructs; equal for a sparse autoencoder.
        model: reference of the model.
        dtype: number format of the tensors.
        scale: activations were multiplied by it in training. It is folded into the saved biases: the saved
            dictionary reads and writes raw activations, and latents are in units of those.
    """

    architecture: str
    d_in: int
    d_out: int
    width: int
    k: int | None
    centre: bool
    activation: str
    hook_in: str
    hook_out: str
    model: str
    dtype: str = "float32"
    scale: float = 1.0


@dataclass(frozen=True)
class Dictionary:
    """``pre = (x − b_dec if centre else x) @ W_enc + b_enc``; ``x̂ = act(pre) @ W_dec + b_dec``.

    Attributes:
        config: see `DictionaryConfig`.
        W_enc: (d_in, width).
        W_dec: (width, d_out), one atom a row.
        b_enc: (width,).
        b_dec: (d_out,).
    """

    config: DictionaryConfig
    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor

    def __post_init__(self) -> None:
        config = self.config
        if config.activation != "topk" or config.k is None:
            raise DictionaryError(
                f"The dictionary's activation is “{config.activation}”, which this version cannot compute; "
                "it knows topk with a fixed k."
            )
        if not 1 <= config.k <= config.width:
            raise DictionaryError(f"The dictionary has k = {config.k}, but k must lie between 1 and {config.width}.")
        shapes = {
            "W_enc": (config.d_in, config.width),
            "W_dec": (config.width, config.d_out),
            "b_enc": (config.width,),
            "b_dec": (config.d_out,),
        }
        for name, shape in shapes.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise DictionaryError(f"The dictionary's {name} has shape {found}, but its config asks for {shape}.")

    @torch.no_grad()
    def encode(self, x: Tensor) -> Latents:
        """Active latents of activations ``x`` (n, d_in)."""
        assert self.config.k is not None
        centred = x - self.b_dec if self.config.centre else x
        # The encoder wants one latent a row; the transpose of a (D, F) tensor is a view that costs nothing.
        return Encoder().topk(centred, self.W_enc.t(), self.b_enc, self.config.k).positive()

    @torch.no_grad()
    def decode(self, latents: Latents) -> Tensor:
        """Reconstructions (n, d_out) of ``latents``."""
        return decode(self.W_dec, latents) + self.b_dec

    def __call__(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d_out) of activations ``x`` (n, d_in)."""
        return self.decode(self.encode(x))

    def to(self, device: torch.device | str) -> Dictionary:
        """The same dictionary on ``device``."""
        return Dictionary(self.config, *(getattr(self, name).to(device) for name in TENSORS))

    def attributes(self) -> dict[str, Any]:
        """What a session stores of it beside its arrays: ``{"config": {…}}``."""
        return {"config": asdict(self.config)}

    def arrays(self) -> dict[str, Array]:
        """Its tensors by name as float32 arrays."""
        return {name: getattr(self, name).detach().cpu().numpy() for name in TENSORS}


def read(attributes: Mapping[str, Any], arrays: Mapping[str, Array]) -> Dictionary:
    """The dictionary a session holds as ``attributes`` and ``arrays`` (what `Dictionary` gave).

    Raises:
        DictionaryError: a key of its config or a tensor is missing, unknown or of the wrong shape.
    """
    known = {entry.name for entry in fields(DictionaryConfig)}
    values = dict(attributes.get("config", {}))
    required = known - {"dtype", "scale"}
    if not required <= set(values) or not set(values) <= known:
        odd = sorted((required - set(values)) | (set(values) - known))
        raise DictionaryError(f"The dictionary's config lacks or does not know {odd[0]}, so it cannot be read.")
    absent = [name for name in TENSORS if name not in arrays]
    if absent:
        raise DictionaryError(f"The dictionary's tensor {absent[0]} is missing, so it cannot be read.")
    tensors = [torch.from_numpy(np.array(arrays[name], dtype=np.float32)) for name in TENSORS]
    return Dictionary(DictionaryConfig(**values), *tensors)
