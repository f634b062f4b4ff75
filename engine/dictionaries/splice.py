"""Put something in place of a model's activations and measure what that does to its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary
from engine.dictionaries.metrics import Fit, Recovery
from engine.dictionaries.quality import Quality
from engine.models.editing import Hooks, splicing
from engine.models.opening import OpenModel
from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
LOGITS = 1 << 24  # logits of one forward pass held at once (64 MB); the clean ones are held beside others
KEPT = 1 << 28  # bytes of clean predictions that a probe holds on to


@dataclass(frozen=True)
class Evaluation:
    """What a dictionary does on contexts that it may not have seen.

    Attributes:
        recovery: cross entropies and KL.
        quality: everything about reconstructions and latents; of a transcoder, against the true output.
    """

    recovery: Recovery
    quality: Quality

    @property
    def fit(self) -> Fit:
        """Squared error against the variance of what is reconstructed."""
        return self.quality.fit

    @property
    def active(self) -> Array:
        """(F,) activations on which each latent was active."""
        return self.quality.active.cpu().numpy()

    @property
    def l0(self) -> float:
        """Mean number of active latents per activation."""
        return self.quality.values()["l0"]


@torch.no_grad()
def evaluate(
    model: OpenModel,
    dictionary: Dictionary,
    ids: Array,
    counted: Array,
    mean: Tensor,
    run: Run | None = None,
) -> Evaluation:
    """Splice ``dictionary`` into ``model`` and compare with the clean model and with ablations.

    Positions that do not count (BOS) keep their own activation in all of them, and predictions made there
    or of tokens that do not count are left out.

    Args:
        dictionary: names the hook points that it reads and writes, which for a transcoder are two.
        ids: (contexts, position) token ids.
        counted: (contexts, position) bool.
        mean: (d_out,) the activation that mean ablation puts in place.

    Raises:
        DictionaryError: the dictionary's widths are not those of the hook points, or it reads behind where it writes.
    """
    config = dictionary.config
    site = Site(model, config.hook_in, config.hook_out)
    site.check(dictionary)
    mean = mean.float().to(dictionary.W_dec.device)
    quality = Quality(mean, config.width)
    rows = []
    for tokens, counts in _batches(model, ids, counted, run):
        baseline = _Baseline(site, tokens, counts, mean, run)
        rows.append(baseline.with_spliced(baseline.spliced(dictionary, quality, run)))
    return Evaluation(_recovery(rows), quality)


class Probe:
    """Cross entropy and KL of a dictionary in training, again and again on the same few contexts.

    What does not depend on the dictionary (clean, zero and mean ablation) is computed once; each call then
    costs one forward pass, and a second one where the clean predictions are too many to keep.

    Args:
        hook_in, hook_out: where the dictionary reads and writes; equal for an autoencoder.
        ids, counted: (contexts, position) as in `evaluate`.
        mean: (d_out,) the activation that mean ablation puts in place.
        run: hears of progress, and can be paused and stopped between passes.

    Raises:
        DictionaryError: no context holds a prediction that counts.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: OpenModel,
        hook_in: str,
        hook_out: str,
        ids: Array,
        counted: Array,
        mean: Tensor,
        run: Run | None = None,
    ) -> None:
        if not (counted[:, :-1] & counted[:, 1:]).any():
            raise DictionaryError(
                "No prediction of the held-out contexts counts, so none can be measured; use more text."
            )
        self._site = Site(model, hook_in, hook_out)
        mean = mean.float().to(model.device)
        self._baselines: list[_Baseline] = []
        kept = 0
        for tokens, counts in _batches(model, ids, counted, run):
            baseline = _Baseline(self._site, tokens, counts, mean, run)
            kept += baseline.clean_bytes
            if kept > KEPT:
                baseline.forget()
            self._baselines.append(baseline)

    @torch.no_grad()
    def __call__(self, dictionary: Dictionary, run: Run | None = None) -> Recovery:
        """What ``dictionary`` recovers on these contexts.

        Raises:
            DictionaryError: its widths are not those of the hook points.
        """
        self._site.check(dictionary)
        return _recovery([base.with_spliced(base.spliced(dictionary, None, run)) for base in self._baselines])


@dataclass(frozen=True)
class Site:
    """Where a dictionary reads and where its reconstruction takes the activations' place."""

    model: OpenModel
    hook_in: str
    hook_out: str

    def check(self, dictionary: Dictionary) -> None:
        """Refuse a dictionary whose widths are not those of the hook points."""
        config = dictionary.config
        for hook, width, does in ((self.hook_in, config.d_in, "reads"), (self.hook_out, config.d_out, "writes")):
            found = self.model.check_hook(hook)
            if found != width:
                raise DictionaryError(
                    f"The dictionary {does} {width:,} dimensions, but {hook} of {self.model.facts.title} has {found:,}; "
                    "choose its own model and hook point."
                )

    def hooks(self, counts: Tensor, rebuild: Callable[[Tensor, Tensor], Tensor]) -> Hooks:
        """Hooks that put ``rebuild(x, y)`` in place of y (n, d_out) at hook_out where ``counts``, x being read at hook_in."""
        if self.hook_in == self.hook_out:
            return splicing(self.hook_out, lambda y: _placed(y, counts, rebuild(y[counts], y[counts])))
        read: list[Tensor] = []

        def keep(activations: Tensor, hook: Any = None) -> None:
            read[:] = [activations.flatten(2)[counts]]

        def replace(y: Tensor) -> Tensor:
            if not read:
                raise DictionaryError(
                    f"The dictionary reads {self.hook_in}, which comes after {self.hook_out}, where it writes; "
                    "it has to read what comes before."
                )
            return _placed(y, counts, rebuild(read[0], y[counts]))

        return [(self.hook_in, keep), *splicing(self.hook_out, replace)]


class _Baseline:
    """What the model predicts of a batch of contexts as it is, and with activations zeroed or at their mean."""

    def __init__(self, site: Site, tokens: Tensor, counts: Tensor, mean: Tensor, run: Run | None) -> None:
        self._site, self._tokens, self._counts = site, tokens, counts
        self._predicts = (counts[:, :-1] & counts[:, 1:]).cpu()
        self._clean: Tensor | None = self._log_probabilities([], run)
        self._sums = [self._summed(torch.ones_like(self._predicts)), self._summed(_cross_entropy(self._clean, tokens))]
        for value in (torch.zeros_like(mean), mean):
            hooks = splicing(site.hook_out, partial(_placed, counts=counts, values=value))
            self._sums.append(self._summed(_cross_entropy(self._log_probabilities(hooks, run), tokens)))

    @property
    def clean_bytes(self) -> int:
        """Memory of the clean predictions."""
        return self._clean.numel() * self._clean.element_size() if self._clean is not None else 0

    def forget(self) -> None:
        """Give the clean predictions' memory back; they are computed again when needed."""
        self._clean = None

    def spliced(self, dictionary: Dictionary, quality: Quality | None, run: Run | None) -> tuple[Array, Array]:
        """Cross entropy and KL (contexts,) each, summed over predictions, with the reconstruction in place."""

        def rebuild(x: Tensor, y: Tensor) -> Tensor:
            x = x.float()
            latents = dictionary.encode(x)
            reconstruction = dictionary.decode(latents, x)
            if quality is not None:
                quality.add(y.float(), reconstruction, latents)
            return reconstruction

        clean = self._clean if self._clean is not None else self._log_probabilities([], run)
        spliced = self._log_probabilities(self._site.hooks(self._counts, rebuild), run)
        kl = (clean.exp() * (clean - spliced)).sum(dim=-1)[:, :-1]
        return self._summed(_cross_entropy(spliced, self._tokens)), self._summed(kl)

    def with_spliced(self, spliced: tuple[Array, Array]) -> Array:
        """(contexts, 6) sums in the order of `Recovery`."""
        tokens, clean, zero, mean = self._sums
        return np.stack([tokens, clean, spliced[0], zero, mean, spliced[1]], axis=1)

    def _log_probabilities(self, hooks: Hooks, run: Run | None) -> Tensor:
        return _log_probabilities(self._site.model, self._tokens, hooks, run)

    def _summed(self, values: Tensor) -> Array:
        """``values`` (contexts, position − 1) summed over predictions that count, float64."""
        return (values.cpu().double() * self._predicts).sum(dim=1).numpy()


def _recovery(rows: list[Array]) -> Recovery:
    """From sums by context; contexts without predictions that count are left out."""
    table = np.concatenate(rows) if rows else np.zeros((0, 6))
    table = table[table[:, 0] > 0]
    return Recovery(*(table[:, column] for column in range(6)))


def _batches(model: OpenModel, ids: Array, counted: Array, run: Run | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids and what counts, on the model's device, as many contexts at a time as `LOGITS` allows."""
    size = max(1, LOGITS // (ids.shape[1] * int(model.facts.vocabulary)))
    began = run.seconds if run is not None else 0.0
    for start in range(0, len(ids), size):
        if run is not None:
            run.progress(start, len(ids), "contexts", since=(0, began))
        part = slice(start, start + size)
        yield (
            torch.from_numpy(np.array(ids[part], dtype=np.int64)).to(model.device),
            torch.from_numpy(np.array(counted[part])).to(model.device),
        )


def _placed(x: Tensor, counts: Tensor, values: Tensor) -> Tensor:
    """``x`` (batch, position, D) with ``values`` (n, D) or (D,) where ``counts``."""
    edited = x.clone()
    edited[counts] = values.to(x.dtype)
    return edited


def _log_probabilities(model: OpenModel, tokens: Tensor, hooks: Hooks, run: Run | None) -> Tensor:
    """Log-probabilities (batch, position, vocabulary) float32 with ``hooks`` in place; a place to pause."""
    if run is not None:
        run.point()
    with model.lock:
        logits = model.bridge.run_with_hooks(tokens, return_type="logits", fwd_hooks=hooks)
    # log_softmax and not log(softmax): the latter is not a number where a probability underflows.
    return torch.log_softmax(logits.float(), dim=-1)


def _cross_entropy(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    """Nats for each next token (batch, position − 1)."""
    return -log_probabilities[:, :-1].gather(2, tokens[:, 1:, None]).squeeze(2)
