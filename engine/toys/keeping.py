"""Putting a trained toy into the session: ``toy:RUN`` as a model, and its data as the text ``toy:RUN``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.text.toys import ToyData

if TYPE_CHECKING:
    from transformer_lens.model_bridge.bridge import TransformerBridge

    from engine.models.network import Network
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
SAMPLES, LONGEST = 12, 48  # samples, and tokens, of the prompt that a toy proposes


def keep_toy(
    run: Run,
    model: TransformerBridge | Network,
    data: ToyData,
    *,
    title: str,
    planted: Mapping[str, tuple[tuple[str, ...], Array]] | None = None,
    **attributes: Any,
) -> None:
    """Add the toy to the session, so that every panel opens it as ``toy:RUN`` and reads ``toy:RUN`` as its text.

    Args:
        model: a native transformer (`engine.models.native`) or a network (`engine.models.network`).
        data: sequences like those it was trained on, with the features planted in them.
        title: for people ("Modular addition, p = 53").
        planted: by hook point the names of planted features and their directions (features, width) there: what a
            dictionary that is trained at this hook point should find.
        attributes: what else to store with the model, JSON values.
    """
    from engine.models.native import save_native
    from engine.models.network import Network, save_network
    from engine.models.toys import BOS, PLANTED

    reference = f"toy:{run.id}"
    if isinstance(model, Network):
        stored, arrays = save_network(model, reference=reference)
    else:
        stored, arrays = save_native(model, reference=reference)
        stored[BOS] = bool((data.tokens[:, 0] == model.tokenizer.bos_token_id).all())
    for hook, (_, directions) in (planted or {}).items():
        arrays[PLANTED + hook] = np.asarray(directions, dtype=np.float32)
    stored |= {"text": reference, "example": _example(model, data)}
    stored["planted"] = {hook: list(names) for hook, (names, _) in (planted or {}).items()}
    run.produce("models", run.id, {"title": title, **stored, **attributes}, arrays)
    described, tokens = data.store()
    about = {"title": f"{title}: data", "source": {"reference": reference, "title": title, "kind": "toy"}}
    run.produce("corpora", run.id, {**about, **described, "tokens": int(data.tokens.size)}, tokens)
    run.say(f"The toy is in the session as the model {reference}, its data as the text {reference}.")


def _example(model: TransformerBridge | Network, data: ToyData) -> str:
    """A prompt of the toy's own data, as a person types it."""
    from engine.models.network import Network

    if isinstance(model, Network):
        return " ".join(str(number) for number in range(min(model.samples, SAMPLES)))
    special = set(model.tokenizer.all_special_ids)
    ids = [int(token) for token in data.tokens[0][:LONGEST] if int(token) not in special]
    return str(model.tokenizer.decode(ids)).strip()
