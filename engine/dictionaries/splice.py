"""Put something in place of a model's activations and measure what that does to its predictions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.form import Dictionary
from engine.dictionaries.metrics import Fit, Recovery
from engine.models.opening import OpenModel
from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
Replace: TypeAlias = Callable[[Tensor], Tensor]
Hooks: TypeAlias = list[tuple[str | Callable[..., Any], Callable[..., Any]]]
LOGITS = 1 << 24  # logits of one forward pass held at once (64 MB); the clean ones are held beside others
RESID_MID = re.compile(r"blocks\.(\d+)\.hook_resid_mid")


def splicing(hook: str, replace: Replace) -> Hooks:
    """Hooks that put ``replace(x)`` in place of the activations x (batch, position, width) of ``hook``.

    Heads are flattened into the width and unflattened again. ``blocks.L.hook_resid_mid`` is in
    TransformerLens 4.3 only a name for the input of the norm before the MLP: an edit there would change the
    MLP's input and not the residual stream. The difference is therefore added to the attention's output.
    """
    middle = RESID_MID.fullmatch(hook)
    if middle is None:

        def edit(activations: Tensor, hook: Any = None) -> Tensor:
            flat = activations.flatten(2)
            return replace(flat).reshape(activations.shape).to(activations.dtype)

        return [(hook, edit)]

    block = f"blocks.{middle[1]}"
    before: list[Tensor] = []

    def keep(activations: Tensor, hook: Any = None) -> None:
        before[:] = [activations]

    def add(activations: Tensor, hook: Any = None) -> Tensor:
        x = before[0] + activations
        return (activations + (replace(x) - x)).to(activations.dtype)

    return [(f"{block}.hook_resid_pre", keep), (f"{block}.hook_attn_out", add)]


@dataclass(frozen=True)
class Evaluation:
    """What a dictionary does on contexts that it may not have seen.

    Attributes:
        recovery: cross entropies and KL.
        fit: squared error against the variance of these activations.
        active: (F,) activations on which each latent was active.
        l0: mean number of active latents per activation.
    """

    recovery: Recovery
    fit: Fit
    active: Array
    l0: float


@torch.no_grad()
def evaluate(
    model: OpenModel,
    hook: str,
    dictionary: Dictionary,
    ids: Array,
    counted: Array,
    mean: Tensor,
    run: Run | None = None,
) -> Evaluation:
    """Splice ``dictionary`` into ``model`` at ``hook`` and compare with the clean model and with ablations.

    Positions that do not count (BOS) keep their own activation in all of them, and predictions made there
    or of tokens that do not count are left out.

    Args:
        ids: (contexts, position) token ids.
        counted: (contexts, position) bool.
        mean: (D,) the activation that mean ablation puts in place.
    """
    device = dictionary.W_dec.device
    mean = mean.float().to(device)
    fit = Fit(mean)
    active = torch.zeros(dictionary.config.width, dtype=torch.int64, device=device)
    sums: list[Array] = []
    for tokens, counts in _batches(model, ids, counted, run):

        def rebuilt(x: Tensor, counts: Tensor = counts) -> Tensor:
            used = x[counts].float()
            latents = dictionary.encode(used)
            reconstruction = dictionary.decode(latents)
            fit.add(used, reconstruction)
            active.add_(torch.bincount(latents.indices, minlength=len(active)))
            return _placed(x, counts, reconstruction)

        def to_zero(x: Tensor, counts: Tensor = counts) -> Tensor:
            return _placed(x, counts, torch.zeros_like(mean))

        def to_mean(x: Tensor, counts: Tensor = counts) -> Tensor:
            return _placed(x, counts, mean)

        predicts = counts[:, :-1] & counts[:, 1:]
        clean = _log_probabilities(model, tokens, [], run)
        rows = [torch.ones_like(predicts), _cross_entropy(clean, tokens)]
        spliced = _log_probabilities(model, tokens, splicing(hook, rebuilt), run)
        kl = (clean.exp() * (clean - spliced)).sum(dim=-1)[:, :-1]
        rows.append(_cross_entropy(spliced, tokens))
        del clean, spliced
        for replace in (to_zero, to_mean):
            rows.append(_cross_entropy(_log_probabilities(model, tokens, splicing(hook, replace), run), tokens))
        rows.append(kl)
        sums.append(torch.stack([(row.cpu().double() * predicts.cpu()).sum(dim=1) for row in rows], dim=1).numpy())
    table = np.concatenate(sums) if sums else np.zeros((0, 6))
    table = table[table[:, 0] > 0]
    total = fit.variation.count
    return Evaluation(
        Recovery(*(table[:, column] for column in range(6))),
        fit,
        active.cpu().numpy(),
        float(active.sum()) / max(total, 1),
    )


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
