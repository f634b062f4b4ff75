"""What a sweep compares on what: methods, controls, declared factors and held-out rows, settled before measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.steering import directions
from engine.steering.choices import Method, Steering
from engine.steering.errors import SteeringError
from engine.steering.interventions import AddVector
from engine.steering.prepare import PAIRED, SINGLE, Prepared, prepare_with
from engine.steering.samples import Samples, choose, shuffled, swapped
from engine.steering.sweeping import Arm
from engine.text.prompt_sets import PromptSet

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run
    from engine.steering.steering_sweep import SteeringSweep

RANDOM, SHUFFLED, ROWS = 21, 22, 23  # streams of the seed


@dataclass(frozen=True, eq=False)
class Plan:
    """What is compared on what, before anything is measured."""

    prompts: PromptSet
    factors: tuple[str, ...]
    targeted: bool
    first: Prepared
    fitted: frozenset[int]
    samples: Samples
    held_out: int
    arms: tuple[Arm, ...]


def choice_of(p: SteeringSweep, method: Method) -> Steering:
    """``p`` as the choice of one method."""
    shared = {name: getattr(p, name) for name in Steering.model_fields}
    return Steering.model_validate(shared | {"method": method})


def declare(p: SteeringSweep, prompts: PromptSet, run: Run) -> tuple[str, ...]:
    """The factors to test, recorded before anything is measured."""
    declared = tuple(dict.fromkeys(p.factors)) or prompts.factors
    unknown = [name for name in (*declared, p.transfer) if name and name not in prompts.factors]
    if unknown:
        known = ", ".join(prompts.factors) or "none"
        raise SteeringError(
            f"The prompt set {prompts.name} has no factor “{unknown[0]}” (it has: {known}); declare one that it has, or "
            "leave it empty."
        )
    run.fact("declared_factors", list(declared))
    by = "as the parameter factors says" if p.factors else "all that the set has"
    if declared:
        run.say(f"Factors declared before measuring: {', '.join(declared)} ({by}).")
    return declared


def planned(p: SteeringSweep, prompts: PromptSet, declared: tuple[str, ...], model: OpenModel, run: Run) -> Plan:
    """Prepare all methods and controls, and choose the rows that none of them was made from."""
    methods: list[Method] = list(dict.fromkeys([p.method, *p.methods]))
    prepared = {method: prepare_with(choice_of(p, method), prompts, model, run) for method in methods}
    first = prepared[p.method]
    held = sorted(set.intersection(*(set(one.held_out) for one in prepared.values())))
    targeted = any(method in SINGLE for method in methods)
    samples = choose(
        prompts, held, factors=declared, most=p.rows, random=np.random.default_rng([p.seed, ROWS]),
        targeted=targeted, target=p.target,
    )  # fmt: skip
    arms = [Arm(method, one.intervention) for method, one in prepared.items()]
    arms += controls(p, prompts, first, model, run)
    run.fact("methods", {method: one.facts for method, one in prepared.items()})
    fitted = frozenset(row for one in prepared.values() for row in one.fitted)
    return Plan(prompts, declared, targeted, first, fitted, samples, len(held), tuple(arms))


def controls(p: SteeringSweep, prompts: PromptSet, first: Prepared, model: OpenModel, run: Run) -> list[Arm]:
    """A random vector of equal norm, and the first method made after completions or labels were shuffled."""
    found = [Arm("random vector", random_vector(first, np.random.default_rng([p.seed, RANDOM])), True)]
    random = np.random.default_rng([p.seed, SHUFFLED])
    if p.method in PAIRED:
        # The same rows in the same order, so they are shared out as before: what is held out stays held out.
        mixed = prepare_with(choice_of(p, p.method), swapped(prompts, random), model, run)
        if set(mixed.fitted) != set(first.fitted):
            raise SteeringError("The control was made from other rows than the method; give the set distinct rows.")
    elif p.method == "circular":
        mixed = prepare_with(choice_of(p, p.method), shuffled(prompts, first.fitted, random), model, run)
    else:
        run.say(
            f"{p.method} is not made from the prompt set's classes here, so there is no control with shuffled ones."
        )
        return found
    return [*found, Arm("shuffled", mixed.intervention, True)]


def is_paired(prepared: Prepared) -> bool:
    """Whether the activations at hand are those of pairs: as many positive as negative ones, twice the rows."""
    return len(prepared.held_out) > 0 and len(prepared.real) == 2 * len(prepared.held_out)


def record(plan: Plan, run: Run) -> None:
    """The split itself, and what was declared."""
    run.fact("fitted_rows", sorted(plan.fitted))
    run.fact("measured_rows", list(plan.samples.rows))
    run.fact("asked", "the target against its own label" if plan.targeted else "positive against negative completion")
    run.say(
        f"Measured on {len(plan.samples):,} of {plan.held_out:,} held-out rows of {plan.prompts.name}; the methods were made "
        f"from {len(plan.fitted):,} others."
    )


def random_vector(like: Prepared, random: np.random.Generator) -> AddVector:
    """The control: adds a vector in a direction drawn uniformly, as long as the mean step of ``like`` at strength 1."""
    vector = directions.random_vector(like.bank.shape[1], like.step, random)
    return AddVector(torch.from_numpy(vector.astype(np.float32)).to(like.bank.device))
