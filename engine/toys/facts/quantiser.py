"""Weights in few bits: rounding models that are trained, and training models that are rounded at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from engine.toys.facts.ensemble import BETAS, Group, MemoryTrainer, Models, Table, entropies, gradients
from engine.toys.training import cosine, set_lr

TERNARY = 1.58  # log2(3) bits
ROUNDED = ("a", "b", "out")  # weights that are rounded; biases are kept
CLIPS = 40  # where the range may end, in shares of the largest weight
CLIP_EVERY = 10  # steps between searches for the best range
MIXED = 60


def quantise(values: Tensor, bits: float, clip: Tensor | None = None) -> Tensor:
    """``values`` (models, n) rounded to ``bits`` bits, each model by itself.

    1: sign times mean size. 1.58: -s, 0, s with the threshold at .7 of the mean size and s the least squares scale
    (Li et al. 2016). 2 and more: 2^bits equal steps about zero, none of them zero, up to ``clip`` (models,), by
    default the one with the least squared error.
    """
    if bits == 1:
        return torch.where(values < 0, -1.0, 1.0) * values.abs().mean(dim=1, keepdim=True)
    if bits == TERNARY:
        size = values.abs()
        large = size > 0.7 * size.mean(dim=1, keepdim=True)
        scale = (size * large).sum(dim=1, keepdim=True) / large.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.sign(values) * large * scale
    found = best_clip(values, bits) if clip is None else clip
    return _rounded(values, bits, found[:, None])


def _rounded(values: Tensor, bits: float, clip: Tensor) -> Tensor:
    levels = 2**bits
    step = (2 * clip / levels).clamp(min=1e-12)
    return ((values / step).floor().clamp(-levels / 2, levels / 2 - 1) + 0.5) * step


def best_clip(values: Tensor, bits: float) -> Tensor:
    """The range (models,) whose rounding has the least squared error, over a grid of `CLIPS`."""
    largest = values.abs().amax(dim=1)
    grid = torch.linspace(1 / CLIPS, 1, CLIPS)[:, None] * largest
    errors = (_rounded(values, bits, grid[..., None]) - values).square().sum(dim=2)
    return grid.gather(0, errors.argmin(dim=0)[None])[0]


def rounded(models: Models, bits: float) -> Models:
    """All models with A, B and w rounded, each tensor by itself."""
    return replace(models, **{name: _as(getattr(models, name), bits) for name in ROUNDED})


def _as(tensor: Tensor, bits: float) -> Tensor:
    return quantise(tensor.flatten(1), bits).view(tensor.shape)


def mixed(models: Models, source: torch.Generator) -> Models:
    """The control: the same numbers in each tensor, in another order."""
    found = {}
    for name in ROUNDED:
        tensor = getattr(models, name)
        flat = tensor.flatten(1)
        found[name] = flat[:, torch.randperm(flat.shape[1], generator=source)].view(tensor.shape)
    return replace(models, **found)


class QuantisingTrainer(MemoryTrainer):
    """Trains models in float first, then copies of them for each number of bits, rounded at each step.

    The second stage computes loss and gradient at rounded weights and moves the unrounded ones (straight-through;
    Courbariaux et al. 2015). Each stage has its own cosine.
    """

    def __init__(
        self,
        table: Table,
        hidden: Sequence[int],
        *,
        bits: Sequence[float],
        restarts: int,
        steps: int,
        lr: float,
        fine_lr: float,
        seed: int,
    ) -> None:
        facts = (table.items**2,)
        super().__init__(table, [Group(h, facts, restarts) for h in hidden], steps=steps, lr=lr, seed=seed)
        self.bits, self.restarts, self.fine_lr = tuple(bits), restarts, fine_lr
        self.fine = [self._copies(models) for models in self.models]
        for number, models in enumerate(self.fine):
            for entry in fields(Models):
                self.weights[f"fine.{entry.name}.{number}"] = getattr(models, entry.name).requires_grad_()
            for name in ROUNDED:
                self.extra[f"clip.{name}.{number}"] = torch.zeros(len(models))
        self.optimiser = torch.optim.Adam(self.weights.values(), lr=lr, betas=BETAS)

    def _copies(self, models: Models) -> Models:
        """Each restart once for each number of bits: bits first, then restarts."""
        repeats = [torch.cat([getattr(models, e.name).detach()] * len(self.bits)) for e in fields(Models)]
        return Models(*(tensor.clone() for tensor in repeats))

    @property
    def in_float(self) -> bool:
        """Whether the first stage goes on."""
        return self.step < self.steps

    @torch.no_grad()
    def train_step(self) -> float:
        """One step of all models of the stage; the mean of their losses before it."""
        if self.in_float:
            return super().train_step()
        assert self.optimiser is not None
        step = self.step - self.steps
        if step == 0:
            self._begin_fine()
        set_lr(self.optimiser, cosine(self.fine_lr, step, self.steps))
        losses = []
        for number, models in enumerate(self.fine):
            if step % CLIP_EVERY == 0:
                self._find_clips(number)
            weight = self.weight[number][:1].expand(len(models), -1, -1)
            loss, found = gradients(self.rounded_fine(number), self.table.answers, weight)
            losses.append(loss)
            for entry in fields(Models):
                getattr(models, entry.name).grad = getattr(found, entry.name)
        self.optimiser.step()
        self.step += 1
        return float(torch.cat(losses).mean())

    def _begin_fine(self) -> None:
        for models, fine in zip(self.models, self.fine, strict=True):
            copies = self._copies(models)
            for entry in fields(Models):
                getattr(models, entry.name).grad = None
                getattr(fine, entry.name).copy_(getattr(copies, entry.name))

    def _find_clips(self, number: int) -> None:
        for place, bits in enumerate(self.bits):
            if bits >= 2:
                part = self._part(place)
                for name in ROUNDED:
                    values = getattr(self.fine[number], name)[part].flatten(1)
                    self.extra[f"clip.{name}.{number}"][part] = best_clip(values, bits)

    def _part(self, place: int) -> slice:
        return slice(place * self.restarts, (place + 1) * self.restarts)

    def rounded_fine(self, number: int) -> Models:
        """The models of the second stage as they compute, of width number ``number``."""
        models, found = self.fine[number], {}
        for name in ROUNDED:
            tensor, clips = getattr(models, name).detach(), self.extra[f"clip.{name}.{number}"]
            parts = [
                quantise(tensor[self._part(place)].flatten(1), bits, clips[self._part(place)])
                for place, bits in enumerate(self.bits)
            ]
            found[name] = torch.cat(parts).view(tensor.shape)
        return replace(models, **found)

    @torch.no_grad()
    def accuracies(self, number: int) -> Tensor:
        """Share of facts right of the models of the second stage (numbers of bits, restarts), at their best ranges."""
        self._find_clips(number)
        right = entropies(self.rounded_fine(number), self.table.answers, self.table.chosen(self.table.items**2))[1]
        return right.view(len(self.bits), self.restarts)
