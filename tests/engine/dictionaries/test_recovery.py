"""The gates: dictionaries planted in superposed data are found again, atom by atom, by every architecture."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from engine.dictionaries.architectures import make
from engine.dictionaries.trainer import Plan, Trainer
from tests.engine.dictionaries.making import choices, moments

ATOMS, D, D_OUT, ACTIVE, BATCH = 64, 24, 20, 2, 256
CHANCE = 0.65  # mean max cosine that random directions reach at most
# Mean over planted atoms of the largest cosine with a learned one, with the choices that reach it.
AUTOENCODERS = {
    "topk": (0.985, {"k": 3}),
    "batchtopk": (0.93, {}),
    "matryoshka": (0.91, {"levels": 2, "width": 160}),  # 80 latents in its first prefix
    "relu": (0.98, {}),
    "gated": (0.97, {}),
    "jumprelu": (0.9, {"bandwidth": 0.25}),
}


class Planted:
    """Unit atoms in few dimensions, and activations that are sums of about two of them."""

    def __init__(self, seed, noise=0.01):
        self.generator = torch.Generator().manual_seed(seed)
        self.noise = noise
        self.atoms = self._directions(D)
        self.outputs = self._directions(D_OUT)
        self.bypass = torch.randn(D, D_OUT, generator=self.generator) / D**0.5

    def _directions(self, d):
        return normalize(torch.randn(ATOMS, d, generator=self.generator), dim=1)

    def draw(self, count):
        """Activations (count, D), and the latents (count, ATOMS) they are made of."""
        active = torch.rand(count, ATOMS, generator=self.generator) < ACTIVE / ATOMS
        latents = active * (0.5 + torch.rand(count, ATOMS, generator=self.generator))
        return latents @ self.atoms + self.noise * torch.randn(count, D, generator=self.generator) + 0.3, latents


def cosines(atoms, learned):
    """Largest cosine of each planted atom with a learned one, and which that is."""
    return (normalize(atoms, dim=1) @ normalize(learned, dim=1).T).max(dim=1)


def trained(chosen, planted, targets, steps, lr):
    x, latents = planted.draw(4_096)
    y = targets(x, latents)
    architecture = make(chosen, moments(x, y))
    weights = architecture.initial(D, D if y is None else D_OUT, planted.generator)
    assert cosines(planted.atoms, weights.encoder).values.mean() < CHANCE
    trainer = Trainer(weights, architecture, Plan.usual(steps, lr, dead_after=5_000))
    for _ in range(steps):
        x, latents = planted.draw(BATCH)
        report = trainer.step(x, targets(x, latents))
    return trainer, report


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_planted_dictionary_is_recovered(name):
    wanted, values = AUTOENCODERS[name]
    planted = Planted(0)
    chosen = choices(name, **{"width": 80, "k": ACTIVE} | values)
    lr = 5e-3 if name == "jumprelu" else 1e-2
    trainer, report = trained(chosen, planted, lambda x, latents: None, 1_000, lr)
    assert cosines(planted.atoms, trainer.weights.decoder).values.mean() > wanted
    assert report.active / BATCH < 3.5


@pytest.mark.parametrize(
    ("architecture", "values"),
    [
        ("transcoder", {"sparsity": "topk", "k": 3}),
        ("transcoder", {"sparsity": "relu", "coefficient": 0.3}),
        ("skip-transcoder", {"sparsity": "topk", "k": 3}),
    ],
)
def test_planted_input_and_output_dictionaries_are_recovered(architecture, values):
    """The bypass alone sees the noise of the input, which tells it from the latents."""
    planted = Planted(1, noise=0.3)
    skips = architecture == "skip-transcoder"

    def targets(x, latents):
        return latents @ planted.outputs + (x @ planted.bypass if skips else 0)

    trainer, report = trained(choices(architecture, width=80, **values), planted, targets, 800, 1e-2)
    weights = trainer.weights
    outputs = cosines(planted.outputs, weights.decoder)
    assert outputs.values.mean() > 0.94
    assert torch.cosine_similarity(planted.atoms, weights.encoder[outputs.indices], dim=1).mean() > 0.8
    assert report.active / BATCH < 3.5
    if skips:
        assert (weights.skip - planted.bypass).norm() < 0.25 * planted.bypass.norm()
