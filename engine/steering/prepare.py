"""From a person's choice to an intervention that is ready: directions are made once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.steering.errors import SteeringError
from engine.steering.interventions import Intervention
from engine.steering.kept import Kept
from engine.text.prompt_sets import PromptRow, PromptSet

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.steering.choices import Method, Steering

Array: TypeAlias = npt.NDArray[Any]
PAIRED: tuple[Method, ...] = (
    "mean-difference",
    "affine-mean",
    "affine-gaussian",
    "affine-least-squares",
    "ablate",
)
SINGLE: tuple[Method, ...] = ("circular", "learned")  # rows are read once, not with both completions
SPLIT = 1  # stream of the seed
KEPT_PREPARED, KEPT_READ = 6, 6
KEPT_TEXTS = 10_000  # texts whose activations are kept, at one place of a model


@dataclass(frozen=True, eq=False)
class Prepared:
    """An intervention with what one has to know of it. What strengths mean: `engine.steering.strengths`.

    Attributes:
        intervention: what changes activations (n, width).
        hook: where.
        prompts: the set that it was made from;  fitted, held_out: its rows from which it was made, and the others that
            could have served. A pair is on one side with both its rows.
        bank: (n, width) real activations at the hook, at the positions read, of the fitted rows, both classes: what
            distances are measured to, float32.
        real: (m, width) the same of the held-out rows, which are in no bank.
        positive, negative: projections of the fitted rows on the unit direction, in units of the step at strength 1,
            from the midpoint of the two means: −.5 and +.5 on average (of random less: it is the control); None without
            a direction.
        step: mean over the bank of the distance that strength 1 moves an activation.
        low, high: strengths that span the data's own range: 5th to 95th percentile of the projections of both classes
            for mean-difference and random; all classes for circular; 0 to 1 for the others.
        facts: plain values for the record: ``method``, ``target``, ``slider`` (lowest and highest strength to offer),
            ``rows`` (fitted and held out), ``relative_step``, norms, cosines, shares of variance, what was left out.
    """

    intervention: Intervention
    hook: str
    prompts: PromptSet
    fitted: tuple[int, ...]
    held_out: tuple[int, ...]
    bank: Tensor
    real: Tensor
    positive: Tensor | None
    negative: Tensor | None
    step: float
    low: float
    high: float
    facts: dict[str, Any] = field(default_factory=dict)


def prepare(choice: Steering, model: OpenModel, run: Run) -> Prepared:
    """The intervention of ``choice``; the last few are kept, since a slider asks for the same one again and again.

    Raises:
        SteeringError: the set has no pairs, no labels or no second class where the method needs them.
        TextError, ModelError, DictionaryError: what is named cannot be opened.
    """
    from engine.text.prompts import open_prompts

    return prepare_with(choice, open_prompts(choice.prompts, work=run.work), model, run)


def prepare_with(choice: Steering, prompts: PromptSet, model: OpenModel, run: Run) -> Prepared:
    """As `prepare`, from ``prompts`` that are open already.

    Rows are shared out half and half between those it is made from and those held out, by ``choice.seed``: see `split`.
    """
    made_for = (
        _digest(prompts),
        choice.method,
        choice.seed,
        choice.dictionary,
        choice.latent,
        choice.learned,
        choice.target,
    )
    key = (_read_key(choice, model), *made_for, str(run.work))
    return _prepared.get(key, lambda: _prepare(choice, prompts, model, run))


def forget() -> None:
    """Let go of everything that is kept."""
    _prepared.clear()
    _read.clear()


def split(prompts: PromptSet, seed: int, *, every_class: bool) -> npt.NDArray[np.bool_]:
    """Which rows interventions are made from, (rows,) bool: half of them, the others are held out.

    It does not depend on the method, so that methods can be compared on rows that none of them has seen. With labels each
    class is shared out by itself. Rows of the same text go to the same side.

    Args:
        every_class: no class goes without a fitted row, though then nothing may be held out; else, where each class has
            one row only, classes are shared out between the sides.
    """
    random = np.random.default_rng([seed, SPLIT])
    texts: dict[str, dict[tuple[str, ...], list[int]]] = {}
    for number, row in enumerate(prompts.rows):
        text = (row.prompt, row.positive, row.negative, row.suffix)
        texts.setdefault(row.label, {}).setdefault(text, []).append(number)
    parts = [list(of_class.values()) for of_class in texts.values()]
    if not every_class and all(len(groups) == 1 for groups in parts):
        parts = [[group for groups in parts for group in groups]]
    fitted = np.zeros(len(prompts.rows), dtype=bool)
    for groups in parts:
        for group in random.permutation(len(groups))[: (len(groups) + 1) // 2]:
            fitted[groups[group]] = True
    return fitted


_prepared: Kept[Prepared] = Kept(KEPT_PREPARED)
_read: Kept[dict[tuple[str, str, str], Tensor]] = Kept(KEPT_READ)  # by text, as some rows of a set may be new


def _prepare(choice: Steering, prompts: PromptSet, model: OpenModel, run: Run) -> Prepared:
    from engine.steering.making import TEMPLATE, Material, make
    from engine.steering.strengths import slider

    paired = _reads_pairs(choice, prompts)
    rows = _rows(choice, prompts, paired)
    fitted = split(prompts, choice.seed, every_class=not paired)[list(rows)]
    if not fitted.any():  # all the rows that serve were held out
        fitted[: (len(rows) + 1) // 2] = True
    positive = _activations(choice, prompts, model, run, rows, "positive")
    negative = _activations(choice, prompts, model, run, rows, "negative") if paired else None
    index = {label: number for number, label in enumerate(prompts.classes)}
    labels = np.array([index.get(prompts.rows[row].label, -1) for row in rows], dtype=np.int64)
    written = [prompts.rows[row].factors.get(TEMPLATE, "") for row in rows]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(written))}
    templates = np.array([numbers[name] for name in written], dtype=np.int64)
    material = Material(choice, prompts, model, run, positive, negative, labels, templates, fitted)
    run.stage("Making the direction")
    made = make(material)
    bank = material.tensor(material.bank)
    step = float((made.intervention(bank, 1.0) - bank).norm(dim=1).double().mean())
    facts = {
        "method": choice.method,
        "target": choice.target,
        "hook": choice.hook,
        "read_at": choice.read_at,
        "rows": [int(fitted.sum()), int((~fitted).sum())],
        "left_out_rows": len(prompts.rows) - len(rows),
        "step": step,
        "relative_step": step / max(float(bank.norm(dim=1).double().mean()), 1e-30),
        "slider": list(
            slider(choice.method, classes=len(prompts.classes), cyclic=prompts.cyclic, target=choice.target)
        ),
        **{name: value for name, value in made.facts.items() if not (isinstance(value, float) and np.isnan(value))},
    }
    if not np.isfinite(step):
        raise SteeringError(f"The activations at {choice.hook} are no finite numbers; choose another hook point.")
    along, against = (
        None if part is None else torch.from_numpy(part.astype(np.float32)) for part in (made.positive, made.negative)
    )
    return Prepared(
        made.intervention,
        choice.hook,
        prompts,
        tuple(row for row, taken in zip(rows, fitted, strict=True) if taken),
        tuple(row for row, taken in zip(rows, fitted, strict=True) if not taken),
        bank,
        material.tensor(material.others),
        along,
        against,
        step,
        *made.span,
        facts,
    )


def _reads_pairs(choice: Steering, prompts: PromptSet) -> bool:
    """Whether rows are read with both completions.

    Raises:
        SteeringError: the method needs that and the rows do not allow it.
    """
    any_pair = any(row.positive and row.negative for row in prompts.rows)
    if choice.method in PAIRED:
        if not any_pair:
            raise SteeringError(
                f"The prompt set {prompts.name} has no row with a positive and a negative completion, which {choice.method} "
                "needs; add them, or choose a method that goes by labels."
            )
        if choice.read_at == "prompt":
            raise SteeringError(
                "Both completions of a row follow the same prompt, so its last token cannot tell them apart; read at the "
                "end or at the answer."
            )
        return True
    return any_pair and choice.read_at != "prompt" and choice.method not in SINGLE


def _rows(choice: Steering, prompts: PromptSet, paired: bool) -> tuple[int, ...]:
    """Rows that can be read as the method needs it. Raises `SteeringError` where there is none."""

    def serves(row: PromptRow) -> bool:
        if paired:
            return bool(row.positive and row.negative)
        if choice.read_at == "answer" and not row.positive:
            return False
        if choice.method in ("circular", "random"):
            return bool(row.label)
        return bool(row.prompt or (row.positive and choice.read_at != "prompt"))

    found = tuple(number for number, row in enumerate(prompts.rows) if serves(row))
    if not found:
        missing = "a label" if choice.method in ("circular", "random") else "a text to read"
        completion = " and a completion" if choice.read_at == "answer" else ""
        raise SteeringError(
            f"The prompt set {prompts.name} has no row with {missing}{completion}, which {choice.method} needs here; add "
            "it, or choose another method or another place to read."
        )
    return found


def _activations(
    choice: Steering, prompts: PromptSet, model: OpenModel, run: Run, rows: tuple[int, ...], which: str
) -> Array:
    """Activations (n, width) float64 of ``rows`` with their positive or negative completions; kept between methods."""
    from engine.steering.rows import read

    chosen = [prompts.rows[row] for row in rows]
    texts = [(row.prompt, row.positive if which == "positive" else row.negative, row.suffix) for row in chosen]
    kept = _read.get(_read_key(choice, model), dict)
    known = {text: kept[text] for text in texts if text in kept}
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    if missing:
        run.stage(f"Reading {len(missing):,} prompts")
        heads, completions, suffixes = zip(*missing, strict=True)
        found = read(
            model, heads, completions, suffixes, hook=choice.hook, read_at=choice.read_at,
            prepend_bos=choice.prepend_bos, run=run,
        )  # fmt: skip
        known |= dict(zip(missing, found, strict=True))
        if len(kept) + len(missing) > KEPT_TEXTS:
            kept.clear()
        kept.update(known)
    return torch.stack([known[text] for text in texts]).double().numpy()


def _read_key(choice: Steering, model: OpenModel) -> tuple[Hashable, ...]:
    """By what activations of a text are told from others."""
    facts = model.facts
    return (facts.source_hash, facts.dtype, facts.device, choice.hook, choice.read_at, choice.prepend_bos)


def _digest(prompts: PromptSet) -> str:
    """Tells a prompt set from others."""
    digest = hashlib.sha256(repr((prompts.name, prompts.classes, prompts.cyclic)).encode())
    for row in prompts.rows:
        texts = (row.prompt, row.positive, row.negative, row.suffix, row.label, tuple(row.factors.items()))
        digest.update(repr(texts).encode())
    return digest.hexdigest()
