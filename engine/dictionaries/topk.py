"""TopK sparse autoencoder (Gao et al. 2024, arXiv 2406.04093): loss and exact gradients, never dense.

    z = relu of the k largest entries of (x − b_dec) @ encoderᵀ + b_enc,    x̂ = z @ decoder + b_dec
    loss = Σ ‖x − x̂‖² / (n · variance) + auxiliary / 32

The auxiliary loss gives latents that have not fired for long a gradient: the D/2 of them with the largest
pre-activations reconstruct the error of the others, and their error is divided by that error's size. It is
taken on every eighth activation of the batch, an unbiased estimate at an eighth of the price.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.dictionaries.sparse import ByLatent, Encoder, Latents, decode, slopes, squared_sum

AUX_WEIGHT = 1 / 32
AUX_EVERY = 8


@dataclass
class Weights:
    """A dictionary in training: encoder and decoder (F, D) with one latent a row, b_enc (F,), b_dec (D,)."""

    encoder: Tensor
    decoder: Tensor
    b_enc: Tensor
    b_dec: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name."""
        return {"encoder": self.encoder, "decoder": self.decoder, "b_enc": self.b_enc, "b_dec": self.b_dec}


@dataclass(frozen=True)
class Step:
    """What one batch gave.

    Attributes:
        loss: whole loss, float64 scalar, as all of the next.
        auxiliary: its auxiliary part before weighting; zero where no latent is dead.
        squared_error: Σ ‖x − x̂‖² over the batch.
        fired: (F,) int64, activations of the batch on which each latent was active.
        gradients: of the loss, for each of the weights.
    """

    loss: Tensor
    auxiliary: Tensor
    squared_error: Tensor
    fired: Tensor
    gradients: Weights


@dataclass(frozen=True)
class _Term:
    """One part of the loss: its active entries, and what the weight gradients are sums of.

    ``slope`` (entries,) is the loss' derivative by each value, before relu's; ``error`` (n, D) the derivative by
    the reconstruction; ``x`` (n, D) the centred input.
    """

    latents: Latents
    slope: Tensor
    error: Tensor
    x: Tensor


def initial_weights(width: int, mean: Tensor, generator: torch.Generator) -> Weights:
    """Random unit atoms, the encoder equal to the decoder, b_dec at the activations' ``mean`` (D,), b_enc zero."""
    directions = torch.randn(width, len(mean), generator=generator)
    decoder = torch.nn.functional.normalize(directions, dim=1).to(mean.device)
    return Weights(decoder.clone(), decoder, torch.zeros(width, device=mean.device), mean.clone())


class TopKLoss:
    """The loss and its gradients on a batch of activations.

    Args:
        k: active latents per activation.
        variance: mean ‖x − mean‖² of the activations in training, the unit of the loss.
    """

    def __init__(self, k: int, variance: float) -> None:
        self.k = k
        self.variance = variance
        self._encode = Encoder()

    @torch.no_grad()
    def __call__(self, weights: Weights, x: Tensor, dead: Tensor | None = None) -> Step:
        """Loss and gradients on ``x`` (n, D); ``dead`` (m,) int64 lists the latents that get the auxiliary loss."""
        centred = x - weights.b_dec
        latents = self._encode.topk(centred, weights.encoder, weights.b_enc, self.k)
        scale = 2 / (len(x) * self.variance)
        term, error, squared = _reconstruct(weights.decoder, latents, centred, centred, scale)
        loss = squared / (len(x) * self.variance)
        fired = torch.bincount(latents.indices[latents.values > 0], minlength=len(weights.encoder))
        terms, auxiliary = [term], torch.zeros_like(loss)
        if dead is not None and len(dead):
            extra, auxiliary = self._auxiliary(weights, centred[::AUX_EVERY], error[::AUX_EVERY], dead)
            terms.append(extra)
            loss = loss + AUX_WEIGHT * auxiliary
        return Step(loss, auxiliary, squared, fired, _gradients(weights, terms))

    def _auxiliary(self, weights: Weights, x: Tensor, error: Tensor, dead: Tensor) -> tuple[_Term, Tensor]:
        """The dead latents' reconstruction of the others' error (n, D), which counts as a constant here."""
        count = min(max(x.shape[1] // 2, 1), len(dead))
        pre = torch.addmm(weights.b_enc[dead], x, weights.encoder[dead].t())
        values, places = pre.topk(count, dim=1, sorted=False)
        offsets = torch.arange(0, len(x) * count + 1, count, device=x.device)
        latents = Latents(values.flatten(), dead[places].flatten(), offsets, len(weights.encoder))
        size = squared_sum(error).clamp_min(torch.finfo(torch.float32).tiny)
        scale = AUX_WEIGHT * 2 / size
        term, _, squared = _reconstruct(weights.decoder, latents, -error, x, scale)
        return term, squared / size


def _reconstruct(
    decoder: Tensor, latents: Latents, target: Tensor, x: Tensor, scale: float | Tensor
) -> tuple[_Term, Tensor, Tensor]:
    """Decode relu(values) and measure it against ``target`` (n, D).

    Returns:
        The term for `_gradients`, the error reconstruction − target (n, D), and its summed square (float64).
    """
    kept = replace(latents, values=latents.values.relu())
    error = decode(decoder, kept) - target
    squared = squared_sum(error)
    by_output = error * scale
    return _Term(kept, slopes(decoder, kept, by_output), by_output, x), error, squared


def _gradients(weights: Weights, terms: list[_Term]) -> Weights:
    """Gradients by the weights. Each row is a sum over the activations on which its latent was active."""
    found = Weights(*(torch.zeros_like(tensor) for tensor in weights.tensors().values()))
    for term in terms:
        grouped, values = ByLatent(term.latents), term.latents.values
        passed = torch.where(values > 0, term.slope, 0.0)  # relu's derivative
        found.decoder += grouped.sum(values, term.error)
        found.encoder += grouped.sum(passed, term.x)
        found.b_enc += grouped.totals(passed)
    # b_dec is added to the output and, by way of the centring, taken from the encoder's input.
    found.b_dec += terms[0].error.sum(dim=0) - weights.encoder.t() @ found.b_enc
    return found
