"""A plain dense training loop of the same dictionary, by autograd alone: the reading to compare with."""

from __future__ import annotations

import torch

from engine.dictionaries.topk import AUX_EVERY, AUX_WEIGHT


def dense_loss(weights, x, k, variance, dead=None):
    """The TopK loss with every product dense; ``weights`` maps names to leaves that require gradients."""
    centred = x - weights["b_dec"]
    pre = centred @ weights["encoder"].T + weights["b_enc"]
    top = pre.topk(k, dim=1)
    code = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    error = x - (code @ weights["decoder"] + weights["b_dec"])
    loss = error.square().sum() / (len(x) * variance)
    if dead is not None and len(dead):
        residual = error[::AUX_EVERY].detach()
        silent = pre[::AUX_EVERY][:, dead]
        top = silent.topk(min(x.shape[1] // 2, len(dead)), dim=1)
        code = torch.zeros_like(silent).scatter(1, top.indices, top.values.relu())
        missed = residual - code @ weights["decoder"][dead]
        loss = loss + AUX_WEIGHT * missed.square().sum() / residual.square().sum()
    return loss


class DenseTrainer:
    """Trains leaves in place as `Trainer` does, without dead latents."""

    def __init__(self, weights, k, variance, plan):
        self.weights, self.k, self.variance, self.plan = weights, k, variance, plan
        self.done = 0
        self._adam = torch.optim.Adam(list(weights.values()), eps=6.25e-10)

    def step(self, x):
        """The loss of one step on ``x``."""
        loss = dense_loss(self.weights, x, self.k, self.variance)
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
