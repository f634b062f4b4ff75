"""SAELens' own trainer, one step a call."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat

import torch
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from tests.benchmarks.peers.cases import LR, Case, K, Start


def trainer(case: Case, begin: Start) -> Callable[[Tensor], Callable[[], int]]:
    """A step on (batch, d), which gives what counts the active entries."""
    size = {"d_in": case.d, "d_sae": case.width, "device": "cpu", "dtype": "float32"}
    match case.architecture:
        case "topk":
            sae = TopKTrainingSAE(TopKTrainingSAEConfig(**size, k=K))
        case "batchtopk":
            sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**size, k=K))
        case "relu":
            sae = StandardTrainingSAE(StandardTrainingSAEConfig(**size, l1_coefficient=1e-3))
        case "jumprelu":
            config = JumpReLUTrainingSAEConfig(**size, l0_coefficient=1e-3, jumprelu_init_threshold=begin.level)
            sae = JumpReLUTrainingSAE(config)
    with torch.no_grad():
        sae.W_dec.copy_(begin.atoms)
        sae.W_enc.copy_(begin.atoms.T)
        sae.b_dec.copy_(begin.b_dec)
        sae.b_enc.fill_(-begin.level if case.architecture == "relu" else 0.0)
    config = SAETrainerConfig(total_training_samples=10**9, train_batch_size_samples=case.batch, lr=LR, lr_end=LR)
    training = SAETrainer(config, sae, repeat(begin.x[: case.batch]))

    def step(x: Tensor) -> Callable[[], int]:
        output = training.step(x)
        training.n_training_steps += 1
        return lambda: int(output.feature_acts.count_nonzero())

    return step
