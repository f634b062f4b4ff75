"""What all architectures share: how input and target are read, gradients put together, weights begun and saved.

    z = act(x̃ @ encoderᵀ + b_enc),   x̃ = x − b_dec (autoencoders) or x (transcoders)
    ŷ = z @ decoder + b_dec [+ x @ skip]
    loss = (Σ ‖ŷ − y‖² + penalties) / (n · variance) + coefficients · terms without unit

Sums go over the n activations of a batch and ``variance`` is the mean ‖y − mean‖² of what was captured before the
first step, so the reconstruction's part of the loss is the batch's FVU. Gradients are written by hand and
exact: autograd would go through a dense (n, width) code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from engine.dictionaries.architectures import transcoder
from engine.dictionaries.architectures.codes import Code
from engine.dictionaries.choices import Choices
from engine.dictionaries.form import Dictionary, DictionaryConfig
from engine.dictionaries.sparse import Encoder, Latents, decode, squared_sum
from engine.dictionaries.weights import Moments, Weights


@dataclass(frozen=True)
class Step:
    """What one batch gave.

    Attributes:
        loss: whole loss, float64 scalar.
        terms: its parts, as they enter it: they add up to the loss.
        squared_error: Σ ‖ŷ − y‖² over the batch.
        fired: (F,) int64, activations of the batch on which each latent was active.
        gradients: of the loss, for each of the weights.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    squared_error: Tensor
    fired: Tensor
    gradients: Weights


@dataclass(frozen=True)
class Part:
    """Entries of a code and what the gradients of their latents' weights are sums of.

    Attributes:
        code: the entries.
        values: what was decoded (entries); None where nothing was.
        by_pre: the loss' derivative by each pre-activation (entries).
        by_output: its derivative by the reconstruction (n, D_out); None where nothing was decoded.
        x: what the encoder read (n, D_in).
        rows: which latents the code's indices stand for, where not all.
    """

    code: Code
    values: Tensor | None
    by_pre: Tensor
    by_output: Tensor | None
    x: Tensor
    rows: Tensor | slice | None = None


def gradients(weights: Weights, parts: Sequence[Part]) -> Weights:
    """Gradients of encoder, decoder and b_enc; those of the other weights are zero so far."""
    found = Weights(**{name: torch.zeros_like(tensor) for name, tensor in weights.tensors().items()})
    for number, part in enumerate(parts):
        sums = {"encoder": part.code.sum(part.by_pre, part.x), "b_enc": part.code.totals(part.by_pre)}
        if part.values is not None and part.by_output is not None:
            sums["decoder"] = part.code.sum(part.values, part.by_output)
        for name, tensor in sums.items():
            if number == 0 and part.rows is None:
                setattr(found, name, tensor)
            else:
                getattr(found, name)[slice(None) if part.rows is None else part.rows] += tensor
    return found


def sum_of(terms: Mapping[str, Tensor]) -> Tensor:
    """The loss, of which ``terms`` are the parts."""
    first, *others = terms.values()
    return sum(others, first)


def total(entries: Tensor) -> Tensor:
    """Sum of ``entries`` as a float64 scalar, as `squared_sum` gives it."""
    return entries.sum().cpu().double() if entries.device.type == "mps" else entries.sum(dtype=torch.float64)


class Architecture(ABC):
    """A family with its hyperparameters: its loss and exact gradients, and what it keeps beside the weights.

    Attributes:
        centre: b_dec is subtracted from the input (False for transcoders).
        unit: atoms are kept at length one.
    """

    activation: ClassVar[str]  # its name in the neutral form

    def __init__(self, choices: Choices, moments: Moments) -> None:
        self.choices = choices
        self.moments = moments
        self.centre = not choices.transcodes
        self.unit = choices.atoms == "unit" or (choices.atoms == "auto" and not choices.transcodes)
        self._encode = Encoder()

    # ---- weights

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Weights:
        """Weights to begin with: random unit atoms, b_dec at the mean; see `start` for the rest.

        Args:
            d_in, d_out: widths of input and target.
            generator: on the CPU; the same seed gives the same weights on every device.
        """
        if self.choices.transcodes:
            weights = transcoder.initial(self.choices, self.moments, d_in, d_out, generator)
        else:
            width, device = self.choices.width, self.moments.mean_in.device
            decoder = normalize(torch.randn(width, d_out, generator=generator), dim=1).to(device)
            tied = self.choices.tied
            encoder = decoder if tied else normalize(torch.randn(width, d_in, generator=generator), dim=1).to(device)
            weights = Weights(encoder.clone(), decoder, decoder.new_zeros(width), self.moments.mean_out.clone())
        self.start(weights)
        return weights

    def start(self, weights: Weights) -> None:  # noqa: B027 — not every family needs it
        """Add what the family has beside encoder and decoder to fresh ``weights``, and size the encoder."""

    def shorten(self, weights: Weights) -> None:
        """Scale an autoencoder's encoder so that the first reconstruction is about as large as the activations.

        Half of F random unit latents are active at first: together they return F / 2D of what they read.
        """
        if self.centre:
            width, d_in = weights.encoder.shape
            weights.encoder *= min(1.0, 2 * d_in / width)

    def empty(self, d_in: int, d_out: int, device: torch.device | str) -> Weights:
        """Zeros of the right names and shapes, to restore into."""
        width = self.choices.width
        shapes = {"encoder": (width, d_in), "decoder": (width, d_out), "b_enc": (width,), "b_dec": (d_out,)}
        weights = Weights(**{name: torch.zeros(shape, device=device) for name, shape in shapes.items()})
        if self.choices.architecture == "skip-transcoder":
            weights.skip = torch.zeros(d_in, d_out, device=device)
        self.start(weights)
        return weights

    def after(self, weights: Weights) -> None:  # noqa: B027 — not every family needs it
        """What follows an optimiser step: projections, running estimates."""

    def calibrate(self, weights: Weights, batches: Iterable[Tensor]) -> None:  # noqa: B027 — not every family needs it
        """Estimate anew what it keeps beside the weights, which have moved while it was estimated.

        Args:
            weights: as they are to be saved.
            batches: (n, D_in) scaled activations, as large as those of training.
        """

    def redrawn(self, weights: Weights, rows: Tensor) -> None:  # noqa: B027 — not every family needs it
        """Set what the family has beside encoder and decoder back to its start for the latents ``rows``."""

    def rates(self) -> dict[str, float]:
        """Factors on the learning rate of some of the weights, by name."""
        return {}

    # ---- loss

    @abstractmethod
    def step(self, weights: Weights, x: Tensor, y: Tensor | None, dead: Tensor | None, progress: float) -> Step:
        """Loss and gradients on a batch.

        Args:
            weights: read only.
            x: (n, D_in) scaled activations.
            y: (n, D_out) targets of a transcoder; None for an autoencoder, whose target is ``x``.
            dead: (m,) int64 latents that count as dead.
            progress: share of the steps done, from which the penalty's warm-up follows.
        """

    @abstractmethod
    def encode(self, weights: Weights, x: Tensor) -> Latents:
        """Active latents of ``x`` (n, D_in) as training computes them."""

    def reconstruct(self, weights: Weights, x: Tensor) -> Tensor:
        """Reconstructions (n, D_out) of ``x`` (n, D_in), both scaled."""
        found = decode(weights.decoder, self.encode(weights, x)) + weights.b_dec
        return found if weights.skip is None else found + x @ weights.skip

    def read(self, weights: Weights, x: Tensor) -> Tensor:
        """What the encoder reads (n, D_in)."""
        return x - weights.b_dec if self.centre else x

    def target(self, weights: Weights, x: Tensor, y: Tensor | None, read: Tensor) -> Tensor:
        """What the latents alone must reconstruct (n, D_out)."""
        if not self.choices.transcodes:
            return read
        assert y is not None, "a transcoder needs targets"
        rest = y - weights.b_dec
        return rest if weights.skip is None else rest.addmm_(x, weights.skip, alpha=-1)

    def coefficient(self, progress: float) -> float:
        """The penalty's weight now: it rises over its warm-up."""
        rising = self.choices.warm_up_penalty
        return self.choices.coefficient * (min(1.0, progress / rising) if rising else 1.0)

    def per_activation(self, n: int) -> float:
        """n · variance, by which sums over a batch are divided."""
        return n * self.moments.variance

    def fit(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """Σ ‖error‖² (float64), and the loss' derivative by the reconstruction (n, D_out)."""
        return squared_sum(error), error * (2 / self.per_activation(len(error)))

    def close(self, weights: Weights, found: Weights, by_output: Tensor, x: Tensor) -> None:
        """Complete the gradients ``found``: b_dec is added to the output and, centring, taken from the input."""
        found.b_dec = by_output.sum(dim=0)
        if self.centre:
            found.b_dec.addmv_(weights.encoder.t(), found.b_enc, alpha=-1)
        if weights.skip is not None:
            found.skip = x.t() @ by_output

    # ---- live numbers, state, saving

    def live(self, weights: Weights) -> dict[str, float]:
        """Numbers worth watching, in scaled units."""
        return {}

    def state(self) -> dict[str, Any]:
        """What it keeps beside the weights: JSON values, floats in hexadecimal."""
        return {}

    def restore(self, values: Mapping[str, Any]) -> None:  # noqa: B027 — not every family needs it
        """Go on from what `state` gave."""

    def thresholds(self, weights: Weights) -> Tensor | None:
        """What the saved dictionary compares pre-activations with (F,), in scaled units; None without."""
        return weights.threshold

    @property
    def weighs(self) -> bool:
        """Latents count by their contribution, value · length of atom: in selections, penalties and as saved."""
        return not self.unit

    def dictionary(self, weights: Weights, config: DictionaryConfig, scale_in: float, scale_out: float) -> Dictionary:
        """The dictionary as it is saved, for raw activations, on the CPU.

        Training saw s·x and t·y (s = ``scale_in``, t = ``scale_out``; equal for an autoencoder). Latents are
        divided by t and atoms stay: W_enc · s/t, then b_enc, thresholds, b_mag and b_dec / t, W_skip · s/t. All
        pre-activations shrink alike, so selections and gates do not change. Where atoms are free and latents
        count by contribution, the atoms' lengths move into the encoder and the saved atoms have length one.
        """
        own = {name: tensor.detach().float().cpu() for name, tensor in weights.tensors().items()}
        lengths = torch.ones_like(own["b_enc"])
        if self.weighs:
            lengths = torch.linalg.vector_norm(own["decoder"], dim=1)
            lengths = torch.where(lengths > 0, lengths, 1.0)
        thresholds = self.thresholds(weights)
        extra: dict[str, Tensor] = {}
        if thresholds is not None:
            extra["threshold"] = thresholds.detach().float().cpu() * self._lengthened(lengths) / scale_out
        if "r_mag" in own:
            extra |= {"r_mag": own["r_mag"].clone(), "b_mag": own["b_mag"] * lengths / scale_out}
        if "skip" in own:
            extra["W_skip"] = own["skip"] * (scale_in / scale_out)
        return Dictionary(
            replace(config, activation=self.activation, centre=self.centre),
            W_enc=(own["encoder"] * (lengths * (scale_in / scale_out))[:, None]).t().contiguous(),
            W_dec=own["decoder"] / lengths[:, None],
            b_enc=own["b_enc"] * lengths / scale_out,
            b_dec=own["b_dec"] / scale_out,
            **extra,
        )

    def _lengthened(self, lengths: Tensor) -> Tensor:
        """Factor on thresholds (F,) where encoders take up the atoms' lengths."""
        return lengths
