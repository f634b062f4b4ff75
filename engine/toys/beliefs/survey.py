"""Reading beliefs off a network's residual streams: probes, controls, divergence from the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.geometry import probes
from engine.toys.beliefs.hidden_markov import Process
from engine.toys.beliefs.network import Outputs

Array: TypeAlias = npt.NDArray[Any]
FOLDS = 5
LONGEST = 3  # tokens back that the controls look at
FEW = 200  # laws up to which "beyond the next token" allows any function of the law


@dataclass(frozen=True)
class Reading:
    """What probes find in one network.

    Attributes:
        scores: of the belief, one per layer (embedding first) and last of all blocks concatenated.
        beyond: partial R² of the belief given the next token's law, likewise; NaN where the law fixes the belief.
    """

    scores: tuple[probes.Score, ...]
    beyond: Array

    @property
    def unexplained(self) -> Array:
        """1 - R² per layer and concatenated: (layers + 2,)."""
        return np.array([1 - score.r2 for score in self.scores])


class Survey:
    """Held-out sequences of a process with their exact beliefs.

    Probes see each distinct history (the tokens up to a position) once, and are scored on histories
    they were not fitted on: equal histories have equal activations and would leak.

    Attributes:
        tokens: (n, context);  beliefs: (n, context, states);  law: (n, context, tokens), of the next token.
        chosen: places of the distinct histories in (n * context,), and ``belief`` (histories, states) there.
    """

    def __init__(self, process: Process, tokens: Array, seed: int) -> None:
        self.process, self.tokens = process, tokens
        self.beliefs = process.beliefs(tokens)
        self.law = process.next_law(self.beliefs)
        self.entropy = _entropy(self.law)
        codes = np.zeros(tokens.shape, np.int64)
        for t in range(tokens.shape[1]):  # 0 marks places before the first token
            codes[:, t] = (codes[:, t - 1] if t else 0) * (len(process.tokens) + 1) + tokens[:, t] + 1
        _, self.chosen = np.unique(codes.ravel(), return_index=True)
        self._codes = codes.ravel()[self.chosen]
        self.belief = self.beliefs.reshape(-1, self.beliefs.shape[-1])[self.chosen]
        random = np.random.default_rng([seed, 5])
        self.fold = probes.folds(self._codes, FOLDS, random)
        self.shuffled = self.belief[random.permutation(len(self.belief))]
        self.known = self._known()

    def _known(self) -> Array:
        law = self.law.reshape(-1, self.law.shape[-1])[self.chosen]
        distinct, index = np.unique(np.round(law, 9), axis=0, return_inverse=True)
        return np.eye(len(distinct))[index.ravel()] if len(distinct) <= FEW else law

    def rows(self, streams: Array) -> list[Array]:
        """Activations (layers + 1, n, context, width) at the distinct histories: per layer, then all blocks side by side."""
        flat = streams.reshape(len(streams), -1, streams.shape[-1])[:, self.chosen]
        return [*flat, np.concatenate(list(flat[1:]), axis=1)]

    def read(self, found: Outputs, *, beyond: bool = True) -> Reading:
        """Probe one network for the belief."""
        rows = self.rows(found.streams)
        more = [probes.beyond(x, self.belief, self.known, self.fold) if beyond else np.nan for x in rows]
        return Reading(tuple(probes.probe(x, self.belief, self.fold) for x in rows), np.array(more))

    def shuffled_scores(self, found: Outputs) -> list[probes.Score]:
        """Control: probes of the same activations for beliefs of other histories."""
        return [probes.probe(x, self.shuffled, self.fold) for x in self.rows(found.streams)]

    def recent(self) -> list[probes.Score]:
        """Control: for 1, 2, 3 tokens, any function of so many last tokens."""
        base = len(self.process.tokens) + 1
        found = []
        for back in range(1, LONGEST + 1):
            distinct, index = np.unique(self._codes % base**back, return_inverse=True)
            found.append(probes.probe(np.eye(len(distinct))[index.ravel()], self.belief, self.fold))
        return found

    def divergence(self, found: Outputs) -> Array:
        """KL divergence of the network's next-token law from the optimal one, in nats: (n, context), at least 0."""
        with np.errstate(divide="ignore"):
            ratio = np.log(np.where(self.law > 0, self.law, 1.0)) - np.log(np.maximum(found.law, 1e-300))
        return np.asarray((self.law * ratio).sum(axis=-1))


def _entropy(law: Array) -> Array:
    return np.asarray(-np.sum(law * np.log(np.where(law > 0, law, 1.0)), axis=-1))
