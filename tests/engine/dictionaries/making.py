"""Architectures, weights and batches for tests."""

from __future__ import annotations

import torch

from engine.dictionaries.architectures import make
from engine.dictionaries.choices import Choices
from engine.dictionaries.weights import Moments

SIZES = {"width": 64, "k": 4}


def choices(architecture="topk", **values):
    return Choices(**{"architecture": architecture} | SIZES | values)


def made(chosen, variance=37.0, mean=None, mean_out=None, d=16):
    """The architecture of ``chosen``, for ``d`` dimensions unless means are given."""
    mean = torch.zeros(d) if mean is None else mean
    return make(chosen, Moments(mean, mean if mean_out is None else mean_out, variance))


def moments(x, y=None):
    """What a first buffer ``x`` (and targets ``y``) would give."""
    target = x if y is None else y
    mean = target.mean(dim=0)
    return Moments(x.mean(dim=0), mean, float((target - mean).square().sum(dim=1).mean()))


def perturbed(weights, generator, size=0.1):
    """The same weights with noise on each, so that no gradient is zero by symmetry."""
    for tensor in weights.tensors().values():
        tensor += size * torch.randn(tensor.shape, generator=generator)
    return weights


def some_weights(chosen, d_in, d_out=None, seed=0):
    """Weights of ``chosen`` near their beginning."""
    generator = torch.Generator().manual_seed(seed)
    d_out = d_in if d_out is None else d_out
    mean_out = torch.randn(d_out, generator=generator)
    mean_in = mean_out if d_in == d_out else torch.randn(d_in, generator=generator)
    return perturbed(made(chosen, 1.0, mean_in, mean_out).initial(d_in, d_out, generator), generator)


def leaves(weights):
    return {name: tensor.clone().requires_grad_() for name, tensor in weights.tensors().items()}


def relative(found, expected):
    return ((found - expected).norm() / expected.norm().clamp_min(1e-12)).item()
