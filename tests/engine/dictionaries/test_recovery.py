"""The gate: a dictionary planted in superposed data is found again, atom by atom."""

from __future__ import annotations

import torch

from engine.dictionaries.architectures import make
from engine.dictionaries.trainer import Plan, Trainer
from tests.engine.dictionaries.making import choices, moments

ATOMS, D, ACTIVE = 96, 32, 3
WANTED = 0.97  # mean over planted atoms of the largest cosine with a learned one
CHANCE = 0.6  # what random directions reach


def planted(seed):
    """96 unit atoms in 32 dimensions, and a generator of activations that are sums of about three of them."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.nn.functional.normalize(torch.randn(ATOMS, D, generator=generator), dim=1)

    def draw(count):
        active = torch.rand(count, ATOMS, generator=generator) < ACTIVE / ATOMS
        size = 0.5 + torch.rand(count, ATOMS, generator=generator)
        return (active * size) @ atoms + 0.01 * torch.randn(count, D, generator=generator) + 0.3

    return atoms, draw, generator


def mean_max_cosine(atoms, decoder):
    return float((atoms @ torch.nn.functional.normalize(decoder, dim=1).T).amax(dim=1).mean())


def test_a_planted_dictionary_is_recovered():
    atoms, draw, generator = planted(0)
    architecture = make(choices(width=128, k=ACTIVE + 1), moments(draw(4_096)))
    weights = architecture.initial(D, D, generator)
    assert mean_max_cosine(atoms, weights.decoder) < CHANCE
    trainer = Trainer(weights, architecture, Plan.usual(1_500, 3e-3, dead_after=20_000))
    for _ in range(1_500):
        trainer.step(draw(512))
    assert mean_max_cosine(atoms, weights.decoder) > WANTED
