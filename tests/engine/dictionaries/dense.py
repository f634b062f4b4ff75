"""Plain dense readings of the losses and a training loop, by autograd alone: what to compare with."""

from __future__ import annotations

import torch

AUX_EVERY = 8


def dense_loss(choices, weights, x, variance, y=None, dead=None, progress=1.0):
    """The loss with every product dense; ``weights`` maps names to leaves that require gradients."""
    read = x if choices.transcodes else x - weights["b_dec"]
    target = x if y is None else y
    return FAMILIES[choices.family](choices, weights, read, target, x, variance, dead, progress)


def offset(weights, x):
    """What the reconstruction is without latents."""
    return weights["b_dec"] + (x @ weights["skip"] if "skip" in weights else 0)


def topk_loss(choices, weights, read, target, x, variance, dead, progress):
    pre = read @ weights["encoder"].T + weights["b_enc"]
    weighed = pre
    if choices.atoms == "free" and not choices.transcodes:
        weighed = pre * weights["decoder"].norm(dim=1)
    chosen = weighed.topk(choices.k, dim=1).indices
    code = torch.zeros_like(pre).scatter(1, chosen, pre.gather(1, chosen).relu())
    error = target - code @ weights["decoder"] - offset(weights, x)
    loss = error.square().sum() / (len(x) * variance)
    return loss + auxiliary(choices, weights, pre, error, dead)


def auxiliary(choices, weights, pre, error, dead):
    """The dead latents' share in the loss."""
    if dead is None or not len(dead) or not choices.aux:
        return 0
    residual = error[::AUX_EVERY].detach()
    silent = pre[::AUX_EVERY][:, dead]
    top = silent.topk(min(max(residual.shape[1] // 2, 1), len(dead)), dim=1)
    code = torch.zeros_like(silent).scatter(1, top.indices, top.values.relu())
    missed = residual - code @ weights["decoder"][dead]
    return choices.aux * missed.square().sum() / residual.square().sum()


FAMILIES = {"topk": topk_loss}


class DenseTrainer:
    """Trains leaves in place as `Trainer` does with unit atoms, without dead latents."""

    def __init__(self, weights, choices, variance, plan):
        self.weights, self.choices, self.variance, self.plan = weights, choices, variance, plan
        self.done = 0
        self._adam = torch.optim.Adam(list(weights.values()), eps=6.25e-10)

    def step(self, x):
        """The loss of one step on ``x``."""
        loss = dense_loss(self.choices, self.weights, x, self.variance, progress=self.done / self.plan.steps)
        loss.backward()
        rows = self.weights["decoder"]
        with torch.no_grad():
            rows.grad -= (rows.grad * rows).sum(dim=1, keepdim=True) * rows
        torch.nn.utils.clip_grad_norm_(list(self.weights.values()), 1.0)
        self._adam.param_groups[0]["lr"] = self.plan.lr_at(self.done)
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            rows /= rows.norm(dim=1, keepdim=True)
        self.done += 1
        return loss.item()
