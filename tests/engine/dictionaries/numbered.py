"""A text whose activations are their own numbers, so that a test sees which one it got, and when it was captured."""

from __future__ import annotations

import threading

import numpy as np
import torch

COUNTS = np.asarray([7, 0, 5, 7, 7, 3, 7, 7, 6, 7, 7, 7, 7, 7, 7, 7, 1, 7, 7, 7, 7, 7, 7, 4])
TOTAL = int(COUNTS.sum())


class Numbered:
    """Implements `Source`: activation i is (i, −i), its target (i / 2, i, 2 i).

    ``calls`` lists the chunks that were asked for, ``threads`` who asked. ``fail_at`` raises at that call.
    """

    name = "numbers"
    d_in = 2

    def __init__(self, counts=COUNTS, paired=False, fail_at=None):
        self.counts = counts
        self.paired = paired
        self.d_out = 3 if paired else 2
        self.calls = []
        self.threads = set()
        self.fail_at = fail_at
        self._first = np.concatenate([[0], np.cumsum(counts)[:-1]])

    @property
    def captured(self):
        return [context for chunk in self.calls for context in chunk]

    def harvest(self, which):
        if len(self.calls) == self.fail_at:
            raise ValueError("the activation of token “x” is NaN")
        self.calls.append(which.tolist())
        self.threads.add(threading.current_thread().name)
        numbers = np.concatenate([self._first[one] + np.arange(self.counts[one]) for one in which])
        wide = numbers.astype(np.float32)
        x = torch.from_numpy(np.stack([wide, -wide], axis=1))
        return x, torch.from_numpy(np.stack([wide / 2, wide, wide * 2], axis=1)) if self.paired else None
