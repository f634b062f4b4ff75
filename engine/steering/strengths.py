"""What a strength means for each method, written once: its unit, its range on a slider, and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.steering.choices import Method

if TYPE_CHECKING:
    from engine.steering.prepare import Prepared


@dataclass(frozen=True)
class Meaning:
    """Attributes: ``unit`` of the strength;  ``sentence`` on it;  ``slider``: lowest and highest strength to offer."""

    unit: str
    sentence: str
    slider: tuple[float, float]


_SHARE = "0 leaves activations as they are, 1 is the whole map, and what lies between is mixed in a straight line"
MEANINGS: dict[Method, Meaning] = {
    "mean-difference": Meaning(
        "differences of means",
        "1 adds the mean of the positive rows less that of the negative ones, −1 takes it away",
        (-3, 3),
    ),
    "affine-mean": Meaning(
        "share of the map",
        f"{_SHARE}: it moves the mean of the negative rows onto that of the positive ones, so 1 adds the difference of means",
        (-1, 2),
    ),
    "affine-gaussian": Meaning(
        "share of the map",
        f"{_SHARE}: it carries mean and covariance of the negative rows onto those of the positive ones",
        (-1, 2),
    ),
    "affine-least-squares": Meaning(
        "share of the map",
        f"{_SHARE}: it is the ridge regression of each positive row's activation on the negative one's",
        (-1, 2),
    ),
    "circular": Meaning("steps", "each step turns every key plane by the angle from a class to the next", (0, 10)),
    "learned": Meaning(
        "share of the learned step",
        "0 leaves activations as they are, 1 adds what the network says leads to the target, and what lies between is a "
        "share of it",
        (0, 2),
    ),
    "feature-add": Meaning(
        "largest activations",
        "1 adds the latent's atom times its largest activation on the prompts; what the dictionary does not explain stays",
        (-2, 2),
    ),
    "feature-clamp": Meaning(
        "of the largest activation",
        "the latent is set to this share of its largest activation on the prompts, whatever it was: 0 switches it off, so "
        "0 is no rest; what the dictionary does not explain stays",
        (0, 2),
    ),
    "ablate": Meaning(
        "share removed",
        "1 sets the component along the difference of means to its mean over the rows, 2 mirrors it",
        (0, 2),
    ),
    "random": Meaning(
        "steps of equal length", "1 adds a random vector as long as the difference of means: the control", (-3, 3)
    ),
}


def strength_label(method: Method, target: str = "") -> str:
    """What stands beside a slider or under an axis of strengths; with ``target`` circular goes to that class."""
    return f"Strength ({_meaning(method, target).unit})"


def slider(method: Method, *, classes: int = 0, cyclic: bool = False, target: str = "") -> tuple[float, float]:
    """Lowest and highest strength to offer; for circular a round of cyclic ``classes``, or all steps of ordered ones."""
    if method == "circular" and not target and classes:
        return (0, classes) if cyclic else (1 - classes, classes - 1)
    return _meaning(method, target).slider


def describe(prepared: Prepared) -> str:
    """What ``prepared`` does and what its strengths mean, in a few sentences for people."""
    facts = prepared.facts
    method: Method = facts["method"]
    meaning = _meaning(method, facts["target"])
    sentences = [
        f"{strength_label(method, facts['target'])}: {meaning.sentence}.",
        f"At strength 1 an activation at {prepared.hook} moves by {prepared.step:.3g} on average, {facts['relative_step']:.0%} "
        f"of its length (mean over {len(prepared.bank)} activations of “{prepared.prompts.name}”).",
    ]
    if "held_out_auroc" in facts:
        sentences.append(
            f"Along the direction {facts['held_out_auroc']:.0%} of held-out pairs of a positive and a negative row are told "
            f"apart ({len(prepared.held_out)} rows of each; chance is 50 %)."
        )
    if "explained" in facts:
        sentences.append(
            f"Classes explain {facts['explained']:.0%} of what varies within templates (shuffled labels: "
            f"{facts['explained_shuffled']:.0%})."
        )
    if "held_out_nearest" in facts:
        sentences.append(
            f"The nearest class mean is the right one for {facts['held_out_nearest']:.0%} of {len(prepared.held_out)} "
            f"held-out rows (chance {1 / facts['classes']:.0%})."
        )
    return " ".join(sentences)


def _meaning(method: Method, target: str) -> Meaning:
    if method == "circular" and target:
        return Meaning(
            "share of the way",
            f"1 turns each activation from the class whose mean is nearest in the key planes to {target}",
            (0, 2),
        )
    return MEANINGS[method]
