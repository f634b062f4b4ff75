"""TopK sparse autoencoder (Gao et al. 2024, arXiv 2406.04093): loss and exact gradients, never dense.

    z = relu of the k largest entries of (x − b_dec) @ encoderᵀ + b_enc,    x̂ = z @ decoder + b_dec
    loss = Σ ‖x − x̂‖² / (n · variance) + auxiliary / 32

The auxiliary loss gives latents that have not fired for long a gradient: the D/2 of them with the largest
pre-activations reconstruct the error of the others, and their error is divided by that error's size. It is
taken on every eighth activation of the batch, an unbiased estimate at an eighth of the price.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from engine.dictionaries.sparse import TopKEncoder, squared_sum, sum_rows

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
    """Active entries (n, m) of one part of the loss, with what its weight gradients are sums of.

    ``slope`` is the loss' derivative by each value, before relu's; ``error`` (n, D) the derivative by the
    reconstruction; ``x`` (n, D) the centred input.
    """

    values: Tensor
    indices: Tensor
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
        self._encode = TopKEncoder(k)

    @torch.no_grad()
    def __call__(self, weights: Weights, x: Tensor, dead: Tensor | None = None) -> Step:
        """Loss and gradients on ``x`` (n, D); ``dead`` (m,) int64 lists the latents that get the auxiliary loss."""
        centred = x - weights.b_dec
        values, indices = self._encode(centred, weights.encoder, weights.b_enc)
        scale = 2 / (len(x) * self.variance)
        term, error, squared = _reconstruct(weights.decoder, values, indices, centred, centred, scale)
        loss = squared / (len(x) * self.variance)
        fired = torch.bincount(indices[values > 0], minlength=len(weights.encoder))
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
        size = squared_sum(error).clamp_min(torch.finfo(torch.float32).tiny)
        scale = AUX_WEIGHT * 2 / size
        term, _, squared = _reconstruct(weights.decoder, values, dead[places], -error, x, scale)
        return term, squared / size


def _reconstruct(
    decoder: Tensor, values: Tensor, indices: Tensor, target: Tensor, x: Tensor, scale: float | Tensor
) -> tuple[_Term, Tensor, Tensor]:
    """Decode relu(values) and measure it against ``target`` (n, D).

    Returns:
        The term for `_gradients`, the error reconstruction − target (n, D), and its summed square (float64).
    """
    kept = values.relu()
    # Autograd's backward of embedding_bag by its weights is the product of each row's error with its atoms.
    with torch.enable_grad():
        leaf = kept.requires_grad_()
        decoded = embedding_bag(indices, decoder, per_sample_weights=leaf, mode="sum")
    error = decoded.detach() - target
    squared = squared_sum(error)
    by_output = error * scale
    (slope,) = torch.autograd.grad(decoded, leaf, by_output)
    return _Term(kept.detach(), indices, slope, by_output, x), error, squared


def _gradients(weights: Weights, terms: list[_Term]) -> Weights:
    """Gradients by the weights. Each row is a sum over the activations on which its latent was active."""
    width = len(weights.encoder)
    values = torch.cat([term.values.flatten() for term in terms])
    slope = torch.cat([term.slope.flatten() for term in terms])
    latents = torch.cat([term.indices.flatten() for term in terms])
    passed = torch.where(values > 0, slope, 0.0)  # relu's derivative
    error = torch.cat([term.error for term in terms]) if len(terms) > 1 else terms[0].error
    x = torch.cat([term.x for term in terms]) if len(terms) > 1 else terms[0].x
    rows, start = [], 0
    for term in terms:
        per_row = term.indices.shape[1]
        ends = torch.arange(start, start + len(term.x), device=x.device)
        rows.append(ends.repeat_interleave(per_row))
        start += len(term.x)

    order = latents.argsort(stable=True)
    offsets = torch.zeros(width, dtype=torch.int64, device=x.device)
    offsets[1:] = torch.bincount(latents, minlength=width).cumsum(0)[:-1]
    row = torch.cat(rows)[order]
    decoder = sum_rows(error, row, offsets, values[order])
    encoder = sum_rows(x, row, offsets, passed[order])
    b_enc = torch.zeros_like(weights.b_enc).index_add_(0, latents, passed)
    # b_dec is added to the output and, by way of the centring, taken from the encoder's input.
    b_dec = terms[0].error.sum(dim=0) - weights.encoder.t() @ b_enc
    return Weights(encoder, decoder, b_enc, b_dec)
