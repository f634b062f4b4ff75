"""What a training run reads: a model on a text, or stored matrices; and what is held out of it to measure on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.dictionaries.errors import DictionaryError
from engine.dictionaries.form import Dictionary
from engine.dictionaries.quality import Quality
from engine.dictionaries.sharing import share
from engine.dictionaries.sources import ModelSource, Source, StoredSource, hold_out, open_stored
from engine.dictionaries.splice import Evaluation, Probe, evaluate
from engine.dictionaries.training_parameters import TRANSCODERS, TrainDictionary
from engine.models.opening import OpenModel, choose_device, open_model
from engine.models.toys import Planted
from engine.runs.run import Run
from engine.text.corpora import open_corpus
from engine.text.tokens import Contexts, contexts

Array: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.int64]
PROBED = 8  # held-out contexts measured on during training


@dataclass(frozen=True)
class Material:
    """Activations to train on, and those held out.

    Attributes:
        source: where activations come from.
        held_out: contexts of the source kept out of training, ascending.
        device: where the dictionary is trained.
        hook_in, hook_out: what the dictionary reads and rebuilds, by name: hook points, or files that name none.
        model: reference of the model that the activations are of, "" where that is not known.
        reading: the model and its text; None where activations are stored.
        predicted: whether the model predicts that text, so that cross entropy means something.
        planted: names and directions (features, d_out) of what was planted in a toy at ``hook_out``; None if nothing.
    """

    source: Source
    held_out: Indices
    device: torch.device
    hook_in: str
    hook_out: str
    model: str
    reading: tuple[OpenModel, Contexts] | None
    predicted: bool = True
    planted: Planted | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What was read, for the record."""
        counts = self.source.counts
        kept = int(counts.sum() - counts[self.held_out].sum())
        found: dict[str, Any] = {"activations_in_text": kept, "held_out_contexts": len(self.held_out)}
        if self.reading is not None:
            found["text"] = self.reading[1].facts
        return found

    def _measured(self) -> Indices:
        """Contexts to measure on: those held out, or all where the text is too short for that."""
        return self.held_out if len(self.held_out) else np.arange(len(self.source.counts))

    def evaluate(self, dictionary: Dictionary, mean: Tensor, run: Run) -> Evaluation | Quality:
        """What ``dictionary`` does on the held-out contexts: in the model, or by its reconstructions alone.

        Args:
            mean: (d_out,) mean of the training activations, for mean ablation.
        """
        which = self._measured()
        if self.reading is not None and self.predicted:
            model, text = self.reading
            ids, counted = np.asarray(text.ids[which]), np.asarray(text.counted[which])
            return evaluate(model, dictionary, ids, counted, mean, run)
        quality = Quality(mean.float().to(self.device), dictionary.config.width)
        began = run.seconds
        for number, context in enumerate(which):
            run.point()
            x, y = self.source.harvest(np.asarray([context]))
            x = x.to(self.device)
            latents = dictionary.encode(x)
            quality.add(x if y is None else y.to(self.device), dictionary.decode(latents, x), latents)
            run.progress(number + 1, len(which), "blocks", since=(0, began))
        return quality

    def probe(self, mean: Tensor, run: Run) -> Probe:
        """Measures cross entropy on a few held-out contexts, again and again.

        Raises:
            DictionaryError: activations are stored, so there is no model to predict with, or it predicts no tokens.
        """
        if not self.predicted:
            raise DictionaryError(
                f"{self.model} does not predict the tokens it reads, so cross entropy cannot be measured; "
                "set measure_every to 0."
            )
        if self.reading is None:
            raise DictionaryError(
                "Stored activations come without a model, so cross entropy cannot be measured; set measure_every to 0."
            )
        model, text = self.reading
        which = self._measured()[:PROBED]
        ids, counted = np.asarray(text.ids[which]), np.asarray(text.counted[which])
        return Probe(model, self.hook_in, self.hook_out, ids, counted, mean, run)


def open_material(p: TrainDictionary, run: Run) -> Material:
    """Open what the parameters name.

    Raises:
        SuperscopeError: a model, text, hook point or file that cannot be read, in one sentence.
    """
    if p.activations:
        run.stage("Opening stored activations")
        inputs = open_stored(p.activations, run.work)
        targets = open_stored(p.activations_out, run.work) if p.architecture in TRANSCODERS else None
        source = StoredSource(inputs, targets)
        hooks = [str(store.attributes.get("hook") or store.path.name) for store in (inputs, targets or inputs)]
        model = str(inputs.attributes.get("model") or "")
        held_out = hold_out(source.counts, p.held_out, p.seed)
        return Material(source, held_out, torch.device(choose_device(p.device)), hooks[0], hooks[1], model, None)
    run.stage(f"Opening {p.model}")
    opened = open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
    hook_in, hook_out = p.hooks
    for hook in (hook_in, hook_out):
        opened.check_hook(hook)
    text = contexts(
        open_corpus(p.text, work=run.work), opened, tokens=p.tokens, context=p.context, prepend_bos=p.prepend_bos,
        include_special=p.include_special, run=run,
    )  # fmt: skip
    from_model = ModelSource(opened, text, hook_in, hook_out)
    return Material(
        share(from_model, run.sweep, run.work), hold_out(from_model.counts, p.held_out, p.seed), opened.device, hook_in,
        hook_out, p.model, (opened, text), predicted=bool(text.facts.get("predicted", True)),
        planted=opened.planted.get(hook_out),
    )  # fmt: skip
