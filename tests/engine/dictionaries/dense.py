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
    count = min(max(error.shape[1] // 2, 1), len(dead))
    every = AUX_EVERY * min(-(-len(dead) // count), 4)
    residual = error[::every].detach()
    silent = pre[::every][:, dead]
    top = silent.topk(count, dim=1)
    code = torch.zeros_like(silent).scatter(1, top.indices, top.values.relu())
    missed = residual - code @ weights["decoder"][dead]
    return choices.aux * missed.square().sum() / residual.square().sum()


def batchtopk_code(choices, weights, pre):
    """The k · n largest positive pre-activations of the batch."""
    weighed = pre * weights["decoder"].norm(dim=1) if choices.atoms == "free" and not choices.transcodes else pre
    chosen = weighed.flatten().topk(choices.k * len(pre)).indices
    return torch.zeros(pre.numel()).scatter(0, chosen, pre.flatten()[chosen].relu()).view_as(pre)


def batchtopk_loss(choices, weights, read, target, x, variance, dead, progress):
    pre = read @ weights["encoder"].T + weights["b_enc"]
    code = batchtopk_code(choices, weights, pre)
    error = target - code @ weights["decoder"] - offset(weights, x)
    loss = error.square().sum() / (len(x) * variance)
    return loss + auxiliary(choices, weights, pre, error, dead)


def matryoshka_loss(choices, weights, read, target, x, variance, dead, progress):
    pre = read @ weights["encoder"].T + weights["b_enc"]
    code = batchtopk_code(choices, weights, pre)
    losses = []
    for level in range(choices.levels):
        width = choices.width // 2 ** (choices.levels - 1 - level)
        error = target - code[:, :width] @ weights["decoder"][:width] - offset(weights, x)
        losses.append(error.square().sum() / (len(x) * variance))
    return sum(losses) / len(losses) + auxiliary(choices, weights, pre, error, dead)


def penalty(choices, a):
    """Sum over latents and activations of the penalty of ``a`` (n, F), as the table of priors defines it."""
    u = a / choices.penalty_scale
    if choices.penalty == "l1":
        found = u
    elif choices.penalty == "lp":
        found = (u + 1e-3) ** choices.penalty_p - 1e-3**choices.penalty_p
    elif choices.penalty == "log-square":
        found = torch.log(1 + u**2)
    elif choices.penalty == "log":
        found = torch.log(1 + u)
    elif choices.penalty == "tanh":
        found = torch.tanh(u)
    else:
        found = (1 + u).prod(dim=1) - 1
    return found.sum()


def contributions(choices, weights, values):
    """Values by the length of their atoms where these are free."""
    unit = choices.atoms == "unit" or (choices.atoms == "auto" and not choices.transcodes)
    return values if unit else values * weights["decoder"].norm(dim=1)


def warm(choices, progress):
    """The coefficient in its warm-up."""
    return choices.coefficient * min(1.0, progress / choices.warm_up_penalty)


def relu_loss(choices, weights, read, target, x, variance, dead, progress):
    code = (read @ weights["encoder"].T + weights["b_enc"]).relu()
    error = target - code @ weights["decoder"] - offset(weights, x)
    price = warm(choices, progress) * penalty(choices, contributions(choices, weights, code))
    return (error.square().sum() + price) / (len(x) * variance)


def gated_loss(choices, weights, read, target, x, variance, dead, progress):
    gate = read @ weights["encoder"].T + weights["b_enc"]
    size = read @ (weights["encoder"] * weights["r_mag"].exp()[:, None]).T + weights["b_mag"]
    code = (gate > 0) * size.relu()
    error = target - code @ weights["decoder"] - offset(weights, x)
    price = warm(choices, progress) * penalty(choices, contributions(choices, weights, gate.relu()))
    frozen = {name: tensor.detach() for name, tensor in weights.items()}
    missed = target - gate.relu() @ frozen["decoder"] - offset(frozen, x)
    return (error.square().sum() + price + missed.square().sum()) / (len(x) * variance)


class Jump(torch.autograd.Function):
    """π · 1[π > θ] with the paper's derivatives (Rajamanoharan et al. 2024, equation 11)."""

    @staticmethod
    def forward(ctx, pre, theta, width):
        ctx.save_for_backward(pre, theta)
        ctx.width = width
        return pre * (pre > theta)

    @staticmethod
    def backward(ctx, slope):
        pre, theta = ctx.saved_tensors
        kernel = (((pre - theta) / ctx.width).abs() < 0.5).float()
        return slope * (pre > theta), (slope * -(theta / ctx.width) * kernel).sum(dim=0), None


class Step(torch.autograd.Function):
    """1[π > θ] with the paper's derivatives (equation 12)."""

    @staticmethod
    def forward(ctx, pre, theta, width):
        ctx.save_for_backward(pre, theta)
        ctx.width = width
        return (pre > theta).float()

    @staticmethod
    def backward(ctx, slope):
        pre, theta = ctx.saved_tensors
        kernel = (((pre - theta) / ctx.width).abs() < 0.5).float()
        return None, (slope * -(1 / ctx.width) * kernel).sum(dim=0), None


def jumprelu_loss(choices, weights, read, target, x, variance, dead, progress):
    pre = read @ weights["encoder"].T + weights["b_enc"]
    width = choices.bandwidth * (variance / target.shape[1]) ** 0.5
    code = Jump.apply(pre, weights["threshold"], width)
    error = target - code @ weights["decoder"] - offset(weights, x)
    loss = error.square().sum() / (len(x) * variance)
    coefficient = warm(choices, progress)
    if choices.l0_loss == "tanh":
        loss = loss + coefficient * torch.tanh(4 * code * weights["decoder"].norm(dim=1)).sum() / (len(x) * variance)
    else:
        count = Step.apply(pre, weights["threshold"], width).sum()
        quadratic = (count / len(x) / choices.k - 1) ** 2
        loss = loss + coefficient * (quadratic if choices.l0_loss == "quadratic" else count / (len(x) * variance))
    if dead is not None and len(dead) and choices.aux:
        missing = (weights["threshold"] - pre)[::AUX_EVERY][:, dead].relu()
        # Atoms count as constants in it.
        pull = (missing * weights["decoder"].detach().norm(dim=1)[dead]).mean() / variance**0.5
        loss = loss + choices.aux * pull
    return loss


FAMILIES = {
    "topk": topk_loss,
    "batchtopk": batchtopk_loss,
    "matryoshka": matryoshka_loss,
    "relu": relu_loss,
    "gated": gated_loss,
    "jumprelu": jumprelu_loss,
}


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


def dense_code(choices, weights, x, threshold=None):
    """Latents (n, F) of ``x``; BatchTopK's and Matryoshka's by ``threshold``, in place of a batch, if given."""
    read = x if choices.transcodes else x - weights["b_dec"]
    pre = read @ weights["encoder"].T + weights["b_enc"]
    if choices.family == "relu":
        return pre.relu()
    if choices.family == "jumprelu":
        return pre * (pre > weights["threshold"])
    if choices.family == "gated":
        size = read @ weights["encoder"].T * weights["r_mag"].exp() + weights["b_mag"]
        return (pre > 0) * size.relu()
    weighed = pre
    if choices.atoms == "free" and not choices.transcodes:
        weighed = pre * weights["decoder"].norm(dim=1)
    if choices.family == "topk":
        chosen = weighed.topk(choices.k, dim=1).indices
        return torch.zeros_like(pre).scatter(1, chosen, pre.gather(1, chosen).relu())
    return batchtopk_code(choices, weights, pre) if threshold is None else pre * (weighed > threshold)


def dense_reconstruction(choices, weights, x, threshold=None):
    """What the latents of `dense_code` rebuild (n, D_out)."""
    return dense_code(choices, weights, x, threshold) @ weights["decoder"] + offset(weights, x)
