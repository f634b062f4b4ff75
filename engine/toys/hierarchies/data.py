"""Batches of hierarchical features, and of independent ones with the same marginals for the control."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.toys.ensembles import Streams
from engine.toys.hierarchies.trees import Hierarchy

LOW = 0.5  # amplitudes are U(LOW, 1)


class Concepts:
    """Batches x (instances, trees · nodes, batch).

    With probability ``active`` each tree draws a leaf and puts on all nodes above it, with a common amplitude
    U(0.5, 1). Of the instances that are not ``hierarchical``, every feature is on by itself, as often as in the
    trees and with an amplitude U(0.5, 1) of its own.

    Args:
        trees: independent copies of ``tree``.
        rates: (leaves,) how often each leaf is drawn, relative to the others.
        hierarchical: (instances,) bool.
        continuous: the leaf's own value is U(0, 1) times the amplitude.
    """

    def __init__(
        self,
        tree: Hierarchy,
        trees: int,
        batch: int,
        hierarchical: Tensor,
        streams: Streams,
        *,
        active: float,
        rates: Tensor,
        continuous: bool = False,
    ) -> None:
        self.tree, self.trees, self.batch, self.continuous = tree, trees, batch, continuous
        self._streams, self._hierarchical = streams, hierarchical
        share = rates.float() / rates.sum() * active
        self._edges = torch.cumsum(share, 0)
        self._edges[-1] = active
        rows = torch.from_numpy(tree.table).float()
        self._rows = torch.cat((rows, torch.zeros(1, rows.shape[1])))  # the last: no leaf was drawn
        self._leaf_rows = self._rows.clone()
        self._leaf_rows[:, [n for n in range(len(tree.names)) if n not in tree.leaves]] = 0
        self.marginal = (share @ rows).repeat(trees)

    @staticmethod
    def numbers(tree: Hierarchy, trees: int, batch: int) -> int:
        """Random numbers that a step needs of each stream."""
        return max(len(tree.names), 3) * trees * batch

    def seek(self, step: int) -> None:
        """Make the batch of ``step`` the next one."""
        self._streams.seek(step)

    def draw(self) -> Tensor:
        """The next batch."""
        u = self._streams.uniform()
        x = torch.empty(len(u), len(self.marginal), self.batch)
        on = self._hierarchical
        x[on] = self.together(u[on])
        x[~on] = self.apart(u[~on])
        return x

    def together(self, u: Tensor) -> Tensor:
        """Hierarchical features from uniform numbers (instances, at least 3 · trees · batch)."""
        count = self.trees * self.batch
        choice, amplitude, own = (u[:, part * count : (part + 1) * count] for part in range(3))
        leaf = torch.bucketize(choice.contiguous(), self._edges, right=True)
        x = self._rows[leaf]
        if self.continuous:
            x = x - self._leaf_rows[leaf] * (1 - own)[..., None]
        x = x * (LOW + (1 - LOW) * amplitude)[..., None]
        x = x.view(len(u), self.trees, self.batch, -1).transpose(2, 3)
        return x.reshape(len(u), len(self.marginal), self.batch)

    def apart(self, u: Tensor) -> Tensor:
        """Independent features of the same marginals from uniform numbers (instances, features · batch)."""
        u = u[:, : len(self.marginal) * self.batch].view(len(u), len(self.marginal), self.batch)
        p = self.marginal[:, None]
        amplitude = LOW + (1 - LOW) * u / p
        if self.continuous:  # what is left of the amplitude's digits
            leaf = torch.from_numpy(np.isin(np.arange(len(self.tree.names)), self.tree.leaves)).repeat(self.trees)
            amplitude = torch.where(leaf[:, None], amplitude * (u / p * 4096).frac(), amplitude)
        return torch.where(u < p, amplitude, 0.0)
