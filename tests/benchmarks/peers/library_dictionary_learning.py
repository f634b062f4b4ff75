"""dictionary_learning's own trainers, one update a call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from torch import Tensor

from tests.benchmarks.peers.cases import ACTIVE, LR, Case, K, Start


def trainer(case: Case, begin: Start) -> Callable[[Tensor], Callable[[], int]]:
    """A step on (batch, d), which gives what counts the active entries."""
    common = {"steps": 10**6, "activation_dim": case.d, "dict_size": case.width, "layer": 0, "lm_name": "none"}
    common |= {"lr": LR, "warmup_steps": 1, "device": "cpu"}
    match case.architecture:
        case "topk":
            training = TopKTrainer(**common, k=K)
        case "batchtopk":
            training = BatchTopKTrainer(**common, k=K)
        case "relu":
            training = StandardTrainer(**common, l1_penalty=1e-3)
        case "jumprelu":
            training = JumpReluTrainer(**common, target_l0=ACTIVE * case.width, sparsity_penalty=1e-3)
    coder = training.ae
    with torch.no_grad():
        if case.architecture == "jumprelu":
            coder.W_dec.copy_(begin.atoms)
            coder.W_enc.copy_(begin.atoms.T)
            coder.threshold.fill_(begin.level)
            coder.b_enc.copy_(-(begin.atoms @ begin.b_dec))  # it does not centre its input
            coder.b_dec.copy_(begin.b_dec)
        else:
            coder.decoder.weight.copy_(begin.atoms.T)
            coder.encoder.weight.copy_(begin.atoms)
            bias = coder.bias if case.architecture == "relu" else coder.b_dec
            bias.copy_(begin.b_dec)
            coder.encoder.bias.fill_(-begin.level if case.architecture == "relu" else 0.0)
    done = 0

    options = {} if case.architecture in ("relu", "jumprelu") else {"use_threshold": False}

    @torch.no_grad()
    def active(x: Tensor) -> int:
        return int(coder.encode(x, **options).count_nonzero())

    def step(x: Tensor) -> Callable[[], int]:
        nonlocal done
        training.update(done, x)
        done += 1
        return lambda: active(x)

    return step
