"""Where activations come from: a model that reads a text, or matrices that are stored already.

A source is cut into contexts: tokens that the model reads together, or a block of a matrix's rows. It gives
the activations of those contexts it is asked for, and for a transcoder what has to be computed from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.chunks import TOGETHER
from engine.dictionaries.errors import DictionaryError
from engine.models.capture import capture
from engine.models.finite import demand_finite
from engine.models.opening import OpenModel
from engine.models.store import ActivationStore
from engine.text.tokens import Contexts

Array: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.int64]
Pair: TypeAlias = tuple[Tensor, Tensor | None]
BLOCK = 1_024  # rows of a matrix read together: single rows at random are slow
BLOCKS = 64  # into which a matrix is cut at least, so that some can be held out and the rest is mixed


class Source(Protocol):
    """Activations by context."""

    @property
    def name(self) -> str:
        """What it is, for sentences and titles: a hook point, or a file."""
        ...

    @property
    def d_in(self) -> int:
        """Values of an activation that a dictionary reads."""
        ...

    @property
    def d_out(self) -> int:
        """Values of what it reconstructs."""
        ...

    @property
    def paired(self) -> bool:
        """Input and target differ, as they do for a transcoder."""
        ...

    @property
    def counts(self) -> Indices:
        """(N,) activations that each context gives."""
        ...

    def harvest(self, which: Indices) -> Pair:
        """Activations (n, d_in) of the contexts ``which`` (ascending) and targets (n, d_out), float32 on the CPU.

        The targets are None unless ``paired``.
        """
        ...


class ModelSource:
    """Activations at one hook point of a model, or at two, captured in one forward pass.

    Args:
        model: the model.
        contexts: the text; positions that do not count give no activation.
        hook_in: hook point that the dictionary reads.
        hook_out: hook point that it reconstructs, where that is another one.

    Raises:
        ModelError: there is no such hook point, or it has no vector per token.

    Attributes:
        hooks: the hook points, one or two.
    """

    def __init__(self, model: OpenModel, contexts: Contexts, hook_in: str, hook_out: str = "") -> None:
        self.model = model
        self.contexts = contexts
        self.hooks = list(dict.fromkeys((hook_in, hook_out or hook_in)))
        self.d_in, self.d_out = model.check_hook(self.hooks[0]), model.check_hook(self.hooks[-1])
        self.counts: Indices = np.asarray(contexts.counted).sum(axis=1).astype(np.int64)

    @property
    def name(self) -> str:
        return " → ".join(self.hooks)

    @property
    def paired(self) -> bool:
        return len(self.hooks) > 1

    def harvest(self, which: Indices) -> Pair:
        """See `Source.harvest`.

        Raises:
            ModelError: an activation is not finite; the sentence names the token.
        """
        ids, counted = np.asarray(self.contexts.ids[which]), np.asarray(self.contexts.counted[which])
        parts: dict[str, list[Tensor]] = {hook: [] for hook in self.hooks}
        for part, found in capture(self.model, ids, self.hooks, batch=TOGETHER):
            for hook, activations in found.items():
                demand_finite(activations, ids[part], which[part], counted[part], hook, self.model.tokenizer)
                taken = torch.from_numpy(counted[part]).to(activations.device)
                parts[hook].append(activations[taken].float().cpu())
        rows = [torch.cat(parts[hook]) for hook in self.hooks]
        return rows[0], rows[1] if self.paired else None


class StoredSource:
    """The rows of a matrix (N, d_in) on disk, and for a transcoder those of a second one (N, d_out).

    Raises:
        DictionaryError: the two have different numbers of rows.
    """

    def __init__(self, inputs: ActivationStore, targets: ActivationStore | None = None) -> None:
        if targets is not None and len(targets) != len(inputs):
            raise DictionaryError(
                f"{inputs.path.name} has {len(inputs):,} activations and {targets.path.name} {len(targets):,}; a "
                "transcoder needs two matrices whose rows belong together."
            )
        self._stores = [inputs] if targets is None else [inputs, targets]
        self.d_in, self.d_out = self._stores[0].width, self._stores[-1].width
        self.block = int(np.clip(len(inputs) // BLOCKS, 1, BLOCK))
        starts = np.arange(0, len(inputs), self.block)
        self.counts: Indices = np.minimum(len(inputs) - starts, self.block)

    @property
    def name(self) -> str:
        return " → ".join(store.path.name for store in self._stores)

    @property
    def paired(self) -> bool:
        return len(self._stores) > 1

    def harvest(self, which: Indices) -> Pair:
        """See `Source.harvest`.

        Raises:
            ModelError: a value is not finite; the sentence names the row.
        """
        rows = [self._read(store, which) for store in self._stores]
        return rows[0], rows[1] if self.paired else None

    def _read(self, store: ActivationStore, which: Indices) -> Tensor:
        parts = [store.rows(slice(start, start + self.block)) for start in (which * self.block).tolist()]
        return torch.from_numpy(np.concatenate(parts))


def open_stored(reference: str, work: Path | None) -> ActivationStore:
    """A stored set of activations: a file of a person's own, or ``activations/<id>`` of the session.

    Args:
        reference: path of a ``.npy``, ``.safetensors`` or ``.h5`` file, or the id of a set in the session.
        work: the session's work folder.

    Raises:
        ModelError: the file holds no matrix (N, D) of floats.
        DictionaryError: there is neither such a file nor such a set.
        SessionError: the set is damaged.
    """
    from engine.session import NotInSession, find_thing
    from engine.session.finding import external_store

    if Path(reference).suffix or work is None or Path(reference).is_file():
        return ActivationStore.open(reference)
    id = reference.removeprefix("activations/")
    try:
        attributes, arrays = find_thing(work, "activations", id)
    except NotInSession:
        raise DictionaryError(
            f"There is neither a file {reference} nor activations of that name in this session; choose a .npy, "
            ".safetensors or .h5 file."
        ) from None
    if "path" in attributes:
        return ActivationStore.open(external_store(work, str(attributes["path"]), id))
    data = arrays.get("data")
    dtype = str(attributes.get("dtype", "")) or (str(data.dtype) if data is not None else "")
    if data is None or data.ndim != 2 or 0 in data.shape or (data.dtype.kind != "f" and dtype != "bfloat16"):
        raise DictionaryError(f"activations/{id} holds no matrix (N, D) of floats; capture it again.")
    return ActivationStore(Path(id), (data.shape[0], data.shape[1]), dtype, attributes, data)


def hold_out(counts: Indices, wanted: int, seed: int) -> Indices:
    """Contexts to keep out of training, ascending: ``wanted`` at random, but a fifth of all at most."""
    chosen = np.random.default_rng([seed, 9]).permutation(len(counts))[: min(wanted, len(counts) // 5)]
    return np.sort(chosen)


def constant_dimensions(rows: Iterable[Tensor]) -> Indices:
    """Dimensions that have one and the same value in all activations, given a few (n, D) at a time."""
    least = most = None
    for some in rows:
        low, high = some.amin(dim=0), some.amax(dim=0)
        least = low if least is None else torch.minimum(least, low)
        most = high if most is None else torch.maximum(most, high)
    if least is None or most is None:
        return np.empty(0, dtype=np.int64)
    return (least == most).nonzero().flatten().cpu().numpy()


def demand_variation(rows: Iterable[Tensor], width: int, name: str) -> str:
    """A warning that names how many of the ``width`` dimensions are constant; "" where all vary.

    Raises:
        DictionaryError: none varies.
    """
    constant = constant_dimensions(rows)
    if len(constant) == 0:
        return ""
    if len(constant) == width:
        raise DictionaryError(
            f"All activations of {name} are equal, so there is nothing to reconstruct; choose another hook point or "
            "another set."
        )
    which = ", ".join(str(one) for one in constant[:5]) + ("…" if len(constant) > 5 else "")
    return (
        f"{len(constant):,} of the {width:,} dimensions of {name} are constant ({which}); a dictionary learns nothing "
        "from these."
    )
