"""Our trainer, one step a call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.dictionaries.architectures import Moments, make
from engine.dictionaries.choices import Choices
from engine.dictionaries.trainer import Plan, Trainer
from tests.benchmarks.peers.cases import ACTIVE, LR, Case, K, Start

DEAD_AFTER = 10_000_000


def trainer(case: Case, begin: Start) -> Callable[[Tensor], Callable[[], int]]:
    """A step on (batch, d), which gives what counts the active entries; density counts and live numbers included."""
    training = prepared(case, begin, Plan(10**6, LR, 1, 0, DEAD_AFTER))

    def step(x: Tensor) -> Callable[[], int]:
        report = training.step(x)
        training.live()
        return lambda: report.active

    return step


def prepared(case: Case, begin: Start, plan: Plan) -> Trainer:
    """A trainer at the common start."""
    variance = float((begin.x - begin.b_dec).square().sum(dim=1).mean())
    sigma = (variance / case.d) ** 0.5
    target = round(ACTIVE * case.width) if case.architecture == "jumprelu" else K
    choices = Choices(
        case.architecture, case.width, target, coefficient=1e-3, threshold=begin.level / sigma, warm_up_penalty=1e-6
    )
    architecture = make(choices, Moments(begin.b_dec, begin.b_dec, variance))
    weights = architecture.initial(case.d, case.d, torch.Generator().manual_seed(0))
    weights.encoder.copy_(begin.atoms)
    weights.decoder.copy_(begin.atoms)
    weights.b_enc.fill_(-begin.level if case.architecture == "relu" else 0.0)
    return Trainer(weights, architecture, plan)
