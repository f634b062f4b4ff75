"""The dictionary in its one neutral form: what every architecture is saved as and read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.sparse import Encoder, Latents, decode

Array: TypeAlias = npt.NDArray[Any]
TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec")
OPTIONAL = ("threshold", "r_mag", "b_mag", "W_skip")
# Tensors that an activation needs, and those it can do without.
ACTIVATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "relu": ((), ()),
    "topk": ((), ()),
    "batchtopk": ((), ("threshold",)),
    "jumprelu": (("threshold",), ()),
    "gated": (("r_mag", "b_mag"), ()),
}
LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True)
class DictionaryConfig:
    """What a saved dictionary is, beside its tensors. Widths are those of the activations it reads and writes.

    Attributes:
        architecture: how it was trained (``topk``).
        d_in, d_out: width of what it reads and of what it reconstructs.
        width: latents.
        k: active latents per activation (topk: exactly, batchtopk: on average), None where that is not fixed.
        centre: b_dec is taken from the input before encoding.
        activation: what turns pre-activations into latents: a key of `ACTIVATIONS`.
        hook_in, hook_out: hook points it reads and reconstructs; equal for a sparse autoencoder.
        model: reference of the model.
        dtype: number format of the tensors as they were stored.
        scale: activations were multiplied by it in training. It is folded into the saved tensors: the saved
            dictionary reads and writes raw activations.
        normalise: what is done to each activation by itself and undone after decoding, because it cannot be
            folded into tensors: ``none``, ``layer_norm`` (its mean taken away, divided by its standard deviation)
            or ``constant_norm`` (its length made √d_in). Old files of other programs ask for it.
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
    normalise: str = "none"


@dataclass(frozen=True)
class Dictionary:
    """``pre = (x − b_dec if centre else x) @ W_enc + b_enc``; ``x̂ = act(pre) @ W_dec + b_dec [+ x @ W_skip]``.

    Only positive latents are active, whatever the activation:

    - ``relu``: all positive ones.
    - ``topk``: the k largest of each activation.
    - ``batchtopk``: those above ``threshold``; where that was never estimated (absent or negative), the k·n
      largest of the n activations given together.
    - ``jumprelu``: those above their ``threshold``.
    - ``gated``: where pre > 0, ``relu((pre − b_enc) · exp(r_mag) + b_mag)``.

    Attributes:
        config: see `DictionaryConfig`.
        W_enc: (d_in, width).
        W_dec: (width, d_out), one atom a row.
        b_enc: (width,); of a gated dictionary the bias of its gate.
        b_dec: (d_out,).
        threshold: (width,), of batchtopk and jumprelu.
        r_mag, b_mag: (width,), logarithm of the magnitudes' gain and their bias, of gated.
        W_skip: (d_in, d_out) of a skip transcoder, applied to the raw input.

    Raises:
        DictionaryError: config and tensors do not fit together.
    """

    config: DictionaryConfig
    W_enc: Tensor
    W_dec: Tensor
    b_enc: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    r_mag: Tensor | None = None
    b_mag: Tensor | None = None
    W_skip: Tensor | None = None

    def __post_init__(self) -> None:
        _check_config(self.config)
        self._check_tensors()
        if self.config.k is None and (
            self.config.activation == "topk" or (self.config.activation == "batchtopk" and not self.calibrated)
        ):
            raise DictionaryError(
                f"The dictionary's activation is “{self.config.activation}”, but its config has no k; "
                "write how many latents are active per activation."
            )

    def tensors(self) -> dict[str, Tensor]:
        """Those tensors that it has, by name, always in the same order."""
        return {name: tensor for name in (*TENSORS, *OPTIONAL) if (tensor := getattr(self, name)) is not None}

    @property
    def calibrated(self) -> bool:
        """A threshold tells which latents are active, so that an activation's latents depend on it alone."""
        return self.threshold is not None and bool((self.threshold >= 0).all())

    @torch.no_grad()
    def encode(self, x: Tensor) -> Latents:
        """Active latents of activations ``x`` (n, d_in)."""
        inner = self._normalised(x)[0]
        if self.config.centre:
            inner = inner - self.b_dec
        # The encoder wants one latent a row; the transpose of a (D, F) tensor is a view that costs nothing.
        return self._activate(Encoder(), inner, self.W_enc.t()).positive()

    @torch.no_grad()
    def decode(self, latents: Latents, x: Tensor | None = None) -> Tensor:
        """Reconstructions (n, d_out) of ``latents``.

        Args:
            x: (n, d_in) the activations they were encoded from: needed by a skip connection and by ``normalise``.
        """
        rebuilt = decode(self.W_dec, latents) + self.b_dec
        if self.W_skip is None and self.config.normalise == "none":
            return rebuilt
        if x is None:
            raise DictionaryError("This dictionary decodes only together with the activations that it encoded.")
        if self.W_skip is not None:
            return rebuilt + x @ self.W_skip
        return self._normalised(x)[1](rebuilt)

    def __call__(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d_out) of activations ``x`` (n, d_in)."""
        return self.decode(self.encode(x), x)

    def to(self, device: torch.device | str) -> Dictionary:
        """The same dictionary on ``device``."""
        return Dictionary(self.config, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def attributes(self) -> dict[str, Any]:
        """What a session stores of it beside its arrays: ``{"config": {…}}``."""
        config = asdict(self.config)
        if config["normalise"] == "none":
            del config["normalise"]
        return {"config": config}

    def arrays(self) -> dict[str, Array]:
        """Its tensors by name as float32 arrays."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.tensors().items()}

    def _activate(self, encoder: Encoder, x: Tensor, rows: Tensor) -> Latents:
        config = self.config
        if config.activation == "topk":
            assert config.k is not None
            return encoder.topk(x, rows, self.b_enc, config.k)
        if config.activation == "batchtopk" and not self.calibrated:
            assert config.k is not None
            return encoder.batchtopk(x, rows, self.b_enc, config.k * len(x))[0]
        if config.activation == "gated":
            assert self.r_mag is not None
            assert self.b_mag is not None
            # The gate's bias stays out of the product, because magnitudes are computed without it.
            found = encoder.above(x, rows, torch.zeros_like(self.b_enc), -self.b_enc)
            values = found.values * self.r_mag.exp()[found.indices] + self.b_mag[found.indices]
            return Latents(values, found.indices, found.offsets, found.width)
        threshold = 0.0 if self.threshold is None else self.threshold.clamp_min(0)
        return encoder.above(x, rows, self.b_enc, threshold)

    def _normalised(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """``x`` as the tensors want it, and what turns their reconstruction back."""
        if self.config.normalise == "layer_norm":
            mean = x.mean(dim=1, keepdim=True)
            spread = (x - mean).std(dim=1, keepdim=True)  # with Bessel's correction
            return (x - mean) / (spread + LAYER_NORM_EPS), lambda y: y * spread + mean
        if self.config.normalise == "constant_norm":
            gain = self.config.d_in**0.5 / x.norm(dim=1, keepdim=True).clamp_min(1e-12)
            return x * gain, lambda y: y / gain
        return x, lambda y: y

    def _check_tensors(self) -> None:
        config = self.config
        needed, possible = ACTIVATIONS[config.activation]
        for name in ("threshold", "r_mag", "b_mag"):
            tensor = getattr(self, name)
            if tensor is None and name in needed:
                raise DictionaryError(
                    f"The dictionary's tensor {name} is missing, which the activation “{config.activation}” needs."
                )
            if tensor is not None and name not in (*needed, *possible):
                raise DictionaryError(
                    f"The dictionary has a tensor {name}, which the activation “{config.activation}” does not know."
                )
        if self.W_skip is not None and config.normalise != "none":
            raise DictionaryError(
                f"The dictionary has W_skip and the normalisation “{config.normalise}”, which cannot go together."
            )
        shapes = expected_shapes(config.d_in, config.d_out, config.width)
        for name, tensor in self.tensors().items():
            if tuple(tensor.shape) != shapes[name]:
                raise DictionaryError(
                    f"The dictionary's {name} has shape {tuple(tensor.shape)}, but its config asks for {shapes[name]}."
                )


def expected_shapes(d_in: int, d_out: int, width: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a dictionary, by name."""
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, width), "W_dec": (width, d_out), "W_skip": (d_in, d_out)}
    shapes |= dict.fromkeys(("b_enc", "threshold", "r_mag", "b_mag"), (width,))
    return shapes | {"b_dec": (d_out,)}


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors with a number that is not one.

    Raises:
        DictionaryError: it names the tensor and how many of its entries are not finite.
    """
    for name, tensor in tensors.items():
        # A sum is not finite when an entry is not, and costs a fifth of looking at each.
        if not bool(torch.isfinite(tensor.sum())) and (odd := int((~torch.isfinite(tensor)).sum())):
            raise DictionaryError(
                f"The dictionary's {name} is not finite in {odd:,} of its {tensor.numel():,} entries; "
                "get the file again, or train again with a lower learning rate."
            )


def read(attributes: Mapping[str, Any], arrays: Mapping[str, Array]) -> Dictionary:
    """The dictionary a session holds as ``attributes`` and ``arrays`` (what `Dictionary` gave).

    Raises:
        DictionaryError: a key of its config or a tensor is missing, unknown, of the wrong shape or not finite.
    """
    known = {entry.name: entry.default is MISSING for entry in fields(DictionaryConfig)}
    values = dict(attributes.get("config", {}))
    required = {name for name, needed in known.items() if needed}
    if not required <= set(values) or not set(values) <= set(known):
        odd = sorted((required - set(values)) | (set(values) - set(known)))
        raise DictionaryError(f"The dictionary's config lacks or does not know {odd[0]}, so it cannot be read.")
    absent = [name for name in TENSORS if name not in arrays]
    if absent:
        raise DictionaryError(f"The dictionary's tensor {absent[0]} is missing, so it cannot be read.")
    names = [name for name in (*TENSORS, *OPTIONAL) if name in arrays]
    tensors = {name: torch.from_numpy(np.array(arrays[name], dtype=np.float32)) for name in names}
    require_finite(tensors)
    return Dictionary(DictionaryConfig(**values), **tensors)


def _check_config(config: DictionaryConfig) -> None:
    if not isinstance(config.activation, str) or config.activation not in ACTIVATIONS:
        raise DictionaryError(
            f"The dictionary's activation is “{config.activation}”, which this version cannot compute; "
            f"it knows {', '.join(ACTIVATIONS)}."
        )
    if config.normalise not in ("none", "layer_norm", "constant_norm"):
        raise DictionaryError(
            f"The dictionary's normalisation is “{config.normalise}”, which this version cannot compute; "
            "it knows none, layer_norm and constant_norm."
        )
    for name in ("d_in", "d_out", "width"):
        if not _is_whole(getattr(config, name)) or getattr(config, name) < 1:
            raise DictionaryError(f"The dictionary's {name} is {getattr(config, name)}, but it must be at least 1.")
    if config.k is not None and not _is_whole(config.k):
        raise DictionaryError(f"The dictionary has k = {config.k}, but k must be a whole number.")
    if config.k is not None and not 1 <= config.k <= config.width:
        raise DictionaryError(f"The dictionary has k = {config.k}, but k must lie between 1 and {config.width}.")
    if config.centre and config.d_in != config.d_out:
        raise DictionaryError(
            f"The dictionary takes b_dec from its input, but it reads {config.d_in} numbers and writes {config.d_out}."
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
