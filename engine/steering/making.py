"""Interventions made from activations: one function for each family of methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.steering import directions
from engine.steering.errors import SteeringError
from engine.steering.interventions import Ablation, AddVector, AffineMap, Intervention, Rotation, RotationTo
from engine.text.prompt_sets import PromptSet

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.steering.choices import Steering

Array: TypeAlias = npt.NDArray[Any]
RANDOM, SHUFFLED = 2, 3  # streams of the seed
SHUFFLES = 20  # controls with shuffled classes
TEMPLATE = "template"  # the factor whose differences are taken out of class means
SAME = 1e-6  # a difference of means this small beside the activations is rounding
FEWEST_CLASSES = 3  # that can go round


@dataclass(frozen=True, eq=False)
class Material:
    """What an intervention is made from.

    Attributes:
        choice, prompts, model, run: as they were given to `engine.steering.prepare.prepare_with`.
        positive: (n, width) float64 activations of the rows used; of pairs with the positive completion.
        negative: (n, width) of the same rows with the negative completion; None where rows were read once.
        labels: (n,) class of each row; -1 without one.
        templates: (n,) template of each row, by the factor `TEMPLATE`; all 0 where the set does not name it.
        fitted: (n,) bool, the rows to make it from; the others are held out.
    """

    choice: Steering
    prompts: PromptSet
    model: OpenModel
    run: Run
    positive: Array
    negative: Array | None
    labels: npt.NDArray[np.int64]
    templates: npt.NDArray[np.int64]
    fitted: npt.NDArray[np.bool_]

    @property
    def bank(self) -> Array:
        """Fitted activations of both classes, (m, width)."""
        return self._both(self.fitted)

    @property
    def others(self) -> Array:
        """Held-out activations of both classes, (m, width)."""
        return self._both(~self.fitted)

    def tensor(self, values: Array) -> Tensor:
        """``values`` as float32 where the model computes."""
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.model.device)

    def pairs(self) -> tuple[Array, Array]:
        """Fitted activations with the positive and with the negative completion, (m, width) each."""
        assert self.negative is not None
        return self.positive[self.fitted], self.negative[self.fitted]

    def _both(self, rows: npt.NDArray[np.bool_]) -> Array:
        parts = [self.positive[rows]] if self.negative is None else [self.positive[rows], self.negative[rows]]
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Made:
    """An intervention with what was measured while it was made; see `engine.steering.prepare.Prepared`."""

    intervention: Intervention
    positive: Array | None = None
    negative: Array | None = None
    span: tuple[float, float] = (0.0, 1.0)
    facts: dict[str, Any] = field(default_factory=dict)


def make(material: Material) -> Made:
    """The intervention of the choice's method.

    Raises:
        SteeringError: the classes do not differ, do not go round, or the target or latent does not exist.
        DictionaryError: the dictionary cannot be opened.
    """
    method = material.choice.method
    if method == "circular":
        return _circular(material)
    if method == "learned":
        return _learned(material)
    if method in ("feature-add", "feature-clamp"):
        from engine.steering.latents import of_latent

        intervention, facts = of_latent(material)
        return Made(intervention, facts=facts)
    if method == "random":
        return _random(material)
    return _from_pairs(material)


def _from_pairs(material: Material) -> Made:
    positive, negative = material.pairs()
    vector = _difference(material, positive, negative)
    facts = _pair_facts(material, vector)
    along, against = _projections(vector, positive, negative)
    method, span = material.choice.method, (0.0, 1.0)
    intervention: Intervention
    if method == "mean-difference":
        intervention = AddVector(material.tensor(vector))
        span = _span(along, against)
    elif method == "ablate":
        middle = (positive.mean(0) + negative.mean(0)) / 2
        intervention = Ablation(material.tensor(vector), material.tensor(middle))
    else:
        affine = _affine(method, negative, positive)
        facts |= affine.facts | _r_squared(material, affine)
        if method == "affine-mean":  # the same function, without a matrix to multiply by
            intervention = AddVector(material.tensor(vector))
        else:
            parts = (material.tensor(part) for part in (affine.weight, affine.bias, affine.centre))
            intervention = AffineMap(*parts)
    return Made(intervention, along, against, span, facts)


def _affine(method: str, source: Array, target: Array) -> directions.Affine:
    if method == "affine-mean":
        return directions.mean_matching(source, target)
    if len(source) < 2:
        raise SteeringError(
            f"{len(source)} row is too few for {method}: half of the rows are held out, so give the prompt set at least 4."
        )
    if method == "affine-gaussian":
        return directions.gaussian_transport(source, target)
    return directions.least_squares(source, target)


def _random(material: Material) -> Made:
    random = np.random.default_rng([material.choice.seed, RANDOM])
    if material.negative is None:
        means = _means(material)
        steps = np.linalg.norm(np.diff(means, axis=0), axis=1)
        vector = directions.random_vector(means.shape[1], float(steps.mean()), random)
        return Made(AddVector(material.tensor(vector)), span=(-1.0, 1.0), facts={"norm": float(steps.mean())})
    positive, negative = material.pairs()
    real = _difference(material, positive, negative)
    vector = directions.random_vector(len(real), float(np.linalg.norm(real)), random)
    along, against = _projections(vector, positive, negative)
    # Strengths of the control are those of what it is compared with.
    span = _span(*_projections(real, positive, negative))
    return Made(AddVector(material.tensor(vector)), along, against, span, _pair_facts(material, vector))


def _circular(material: Material) -> Made:
    count, labels = _classes(material), _labels(material)
    if count < FEWEST_CLASSES:
        raise SteeringError(
            f"The prompt set {material.prompts.name} has {count} classes, which cannot go round; circular steering needs "
            f"at least {FEWEST_CLASSES} labels."
        )
    means = _means(material)
    found = directions.circular_planes(means)
    if not len(found.planes):
        raise SteeringError(
            f"At {material.choice.hook} the {count} classes of {material.prompts.name} go round in no plane; choose another "
            "hook point, or read at the prompt."
        )
    rotation = Rotation(material.tensor(found.planes), torch.from_numpy(found.angles), material.tensor(found.centre))
    facts: dict[str, Any] = {
        "classes": count,
        "frequencies": [int(k) for k in found.frequencies],
        "shares": [float(share) for share in found.shares],
        "left_out": found.left_out,
        **_label_facts(material, labels),
    }
    towards = RotationTo(rotation, material.tensor(means), _target(material) or 0, material.prompts.cyclic)
    if (~material.fitted).any():
        missed = np.remainder(towards.steps(material.tensor(material.others)).cpu().numpy(), count)
        right = np.remainder((_target(material) or 0) - material.labels[~material.fitted], count)
        facts["held_out_nearest"] = float((missed == right).mean())
    if material.choice.target:
        return Made(towards, facts=facts)
    span = (0.0, float(count)) if material.prompts.cyclic else (1.0 - count, count - 1.0)
    return Made(rotation, span=span, facts=facts)


def _learned(material: Material) -> Made:
    from engine.steering.learned import load_learned

    choice, model = material.choice, material.model
    found = load_learned(material.run.work, choice.learned, choice.target)
    width = found.network.centre.shape[0]
    if found.hook != choice.hook or width != model.check_hook(choice.hook):
        raise SteeringError(
            f"The network of {choice.learned} was trained on {width:,} dimensions at {found.hook} of {found.model}; choose that "
            f"model and hook point, and not {choice.hook} of {model.facts.title}."
        )
    return Made(found, facts={"classes": len(found.classes)})


def _difference(material: Material, positive: Array, negative: Array) -> Array:
    vector = directions.difference(positive, negative)
    if np.linalg.norm(vector) <= SAME * np.linalg.norm(positive, axis=1).mean():
        raise SteeringError(
            f"At {material.choice.hook} the positive and the negative rows of {material.prompts.name} have the same mean, so "
            "there is no direction; read at the end or at the answer, or choose another hook point."
        )
    return vector


def _projections(vector: Array, positive: Array, negative: Array) -> tuple[Array, Array]:
    """Of both classes on ``vector``, in units of its length, from the midpoint of the means."""
    middle = (positive.mean(0) + negative.mean(0)) / 2
    scaled = vector / (vector @ vector)
    return (positive - middle) @ scaled, (negative - middle) @ scaled


def _span(along: Array, against: Array) -> tuple[float, float]:
    low, high = np.quantile(np.concatenate([along, against]), [0.05, 0.95])
    return float(low), float(high)


def _pair_facts(material: Material, vector: Array) -> dict[str, Any]:
    """How long the direction is, how it compares with shuffled classes, and whether it holds for other rows."""
    positive, negative = material.pairs()
    random = np.random.default_rng([material.choice.seed, SHUFFLED])
    shuffled = [np.linalg.norm(directions.shuffled_difference(positive, negative, random)) for _ in range(SHUFFLES)]
    facts: dict[str, Any] = {"norm": float(np.linalg.norm(vector)), "shuffled_norm": float(np.mean(shuffled))}
    assert material.negative is not None
    held = ~material.fitted
    if held.any():
        good, bad = material.positive[held], material.negative[held]
        other = directions.difference(good, bad)
        lengths = np.linalg.norm(other) * np.linalg.norm(vector)
        facts["held_out_auroc"] = directions.auroc(good @ vector, bad @ vector)
        facts["held_out_cosine"] = float(vector @ other / lengths) if lengths > 0 else 0.0
    return facts


def _r_squared(material: Material, affine: directions.Affine) -> dict[str, float]:
    """Share of the held-out positive rows' variance that the map explains from the negative ones."""
    assert material.negative is not None
    held = ~material.fitted
    if held.sum() < 2:
        return {}
    target = material.positive[held]
    spread = float(np.square(target - target.mean(0)).sum())
    errors = float(np.square(target - affine(material.negative[held])).sum())
    return {"held_out_r2": 1 - errors / spread} if spread > 0 else {}


def _means(material: Material) -> Array:
    """Class means of the fitted rows, (classes, width), with what differs between templates taken out."""
    labels, count = _labels(material), _classes(material)
    lacking = sorted(set(range(count)) - set(labels.tolist()))
    if lacking:
        raise SteeringError(
            f"No row of {material.prompts.name} with the label {material.prompts.classes[lacking[0]]} can be read here; give "
            "it the text it lacks, or read at the prompt."
        )
    if count < 2:
        raise SteeringError(
            f"The prompt set {material.prompts.name} has one label only, so nothing differs; add others."
        )
    return directions.class_means(
        material.positive[material.fitted], labels, count, material.templates[material.fitted]
    )


def _label_facts(material: Material, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Share of the fitted rows' variance within templates that classes explain; the same with shuffled labels."""
    x, templates = material.positive[material.fitted], material.templates[material.fitted]
    random = np.random.default_rng([material.choice.seed, SHUFFLED])
    shuffled = [directions.explained(x, random.permutation(labels), templates) for _ in range(SHUFFLES)]
    return {"explained": directions.explained(x, labels, templates), "explained_shuffled": float(np.mean(shuffled))}


def _classes(material: Material) -> int:
    return len(material.prompts.classes)


def _labels(material: Material) -> npt.NDArray[np.int64]:
    return np.asarray(material.labels[material.fitted])


def _target(material: Material) -> int | None:
    """The class to go to; None where none is named."""
    target, known = material.choice.target, material.prompts.classes
    if not target:
        return None
    if target not in known:
        raise SteeringError(
            f"“{target}” is no label of the prompt set {material.prompts.name}; choose one of {', '.join(known[:12])}."
        )
    return known.index(target)
