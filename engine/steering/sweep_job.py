"""What `steering-sweep` does: prepares the methods and their controls, sweeps each, and shows what was found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.models.opening import open_model
from engine.steering import sweep_figures, sweep_tables
from engine.steering.damage import MATCHED, NeutralText
from engine.steering.errors import SteeringError
from engine.steering.propensity import Questions
from engine.steering.steerability import Explained, explained, strengths, two_way
from engine.steering.sweep_figures import Setting
from engine.steering.sweep_plan import Plan, declare, is_paired, planned, record
from engine.steering.sweep_transfer import transfer
from engine.steering.sweeping import Arm, Bench, Swept, Ticks
from engine.text.corpora import open_corpus
from engine.text.prompts import open_prompts
from engine.text.tokens import contexts

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.steering.steering_sweep import SteeringSweep

Floats: TypeAlias = npt.NDArray[np.float64]

FIGURES, FACTORS = 24, 25  # streams of the seed
MOST_MAPPED = 12  # values of a factor that get a row or a column in a two-way map
MOST_MAPS = 3
PLACES = {"all": "all positions", "last": "the prompt's last token", "answer": "the prompt's last token and the answer"}


def sweep(p: SteeringSweep, run: Run) -> None:
    """Run the experiment.

    Raises:
        SuperscopeError: model, text, prompts or a method cannot be had, or too few rows are held out.
    """
    prompts = open_prompts(p.prompts, work=run.work)
    declared = declare(p, prompts, run)
    model = open_model(p.model, device=p.device, dtype=p.dtype, run=run, work=run.work)
    at = strengths(p.strengths, p.low, p.high)
    plan = planned(p, prompts, declared, model, run)
    record(plan, run)
    run.stage("Reading the neutral text")
    text = contexts(
        open_corpus(p.text, work=run.work),
        model,
        tokens=p.tokens,
        context=p.context,
        prepend_bos=p.prepend_bos,
        run=run,
    )
    run.fact("text", text.facts)
    if not text.facts.get("predicted", True):
        raise SteeringError(
            f"{p.model} does not predict the tokens of {p.text}, so damage has no meaning; choose a text."
        )
    neutral = NeutralText(model, text, p.positions)
    questions = Questions(model, plan.samples.prompts, plan.samples.answers, prepend_bos=p.prepend_bos)
    ticks = Ticks(run)
    ticks.total = (p.strengths - 1) * len(plan.arms) * (questions.size + neutral.size) + questions.size + neutral.size
    run.stage("Asking the clean model")
    bench = Bench(
        model, questions, neutral, plan.first, paired=is_paired(plan.first), placement=p.positions, strengths=at,
        seed=p.seed, heard=ticks,
    )  # fmt: skip
    found: list[Swept] = []
    for number, arm in enumerate(plan.arms):
        run.stage(f"Steering by {arm.name} ({number + 1} of {len(plan.arms)})")
        found.append(bench.sweep(arm, **logged(arm, number, run)))
        show(found, setting_of(p, plan), str(text.facts["text"].get("title", p.text)), p, run)
    factors = explain(found, plan, p, run)
    keep(found, plan, p, run)
    if p.transfer:
        transfer(p, plan, model, at, setting_of(p, plan), run)
    conclude(found, factors, plan, run)


def setting_of(p: SteeringSweep, plan: Plan) -> Setting:
    """What figures say of the run."""
    factor = plan.factors[0] if plan.factors else ""
    return Setting(
        where=f"{p.hook}, {PLACES[p.positions]}",
        samples=f"{len(plan.samples):,} held-out rows of {plan.prompts.name}",
        propensity="log p(answer of the target class) − log p(own answer)"
        if plan.targeted
        else "log p(positive) − log p(negative)",
        success="the target's answer is the likeliest of all classes'" if plan.targeted else "m > 0",
        factor=factor,
        values=plan.samples.factors.get(factor, ()),
    )


def logged(arm: Arm, number: int, run: Run) -> dict[str, Callable[[float, float], None]]:
    """What to call with each strength, so that the chosen method and its controls are seen as they are measured."""
    suffix = {"random vector": "_random", "shuffled": "_shuffled"}.get(arm.name, "") if arm.control else ""
    if number and not suffix:
        return {}
    return {
        "shifted": lambda strength, shift: run.log(strength, **{f"shift{suffix}": shift}),
        "damaged": lambda strength, ce: run.log(strength, **{f"damage{suffix}": ce}),
    }


def show(found: Sequence[Swept], setting: Setting, text: str, p: SteeringSweep, run: Run) -> None:
    """All figures but those of factors, of what was measured so far."""
    random = np.random.default_rng([p.seed, FIGURES])
    run.show("steerability", sweep_figures.violins(found, setting))
    run.show("table", sweep_tables.steerability_table(found, setting))
    control = next((one for one in found if one.arm.control), None)
    for number, one in enumerate(found):
        if not one.arm.control:
            curves = sweep_figures.curves(one, control, setting, random)
            run.show(f"curves-{one.arm.name}" if number else "curves", curves)
    run.show("tradeoff", sweep_figures.tradeoff(found, setting))
    run.show("reach", sweep_figures.reach(found, setting))
    run.show("damage", sweep_figures.damage(found, setting, text, MATCHED, random, kl=False))
    run.show("kl", sweep_figures.damage(found, setting, text, MATCHED, random, kl=True))
    run.show("matched", sweep_tables.matched_table(found, setting, MATCHED))


def explain(found: Sequence[Swept], plan: Plan, p: SteeringSweep, run: Run) -> dict[str, list[Explained]]:
    """Shares of variance by declared factor, and maps of pairs of factors for the chosen method."""
    if not plan.factors:
        run.say("The prompt set has no factors, so nothing can be said about what explains steerability.")
        return {}
    run.stage("Permuting factors")
    factors = plan.samples.factors
    shares = {}
    for one in found:
        run.point()
        shares[one.arm.name] = explained(one.slopes.slope, factors, np.random.default_rng([p.seed, FACTORS]))
    setting = setting_of(p, plan)
    declared = f"Declared before measuring: {', '.join(plan.factors)}."
    run.show("factors", sweep_tables.factor_table(shares, setting, declared))
    few = [name for name in plan.factors if 2 <= len(set(factors[name])) <= MOST_MAPPED]
    for rows, columns in itertools.islice(itertools.combinations(few, 2), MOST_MAPS):
        table = two_way(found[0].slopes.slope, factors[rows], factors[columns])
        run.show(
            f"two-way {rows} {columns}",
            sweep_figures.two_way_map(table, (rows, columns), found[0].arm.name, setting),
        )
    return shares


def keep(found: Sequence[Swept], plan: Plan, p: SteeringSweep, run: Run) -> None:
    """Everything that figures were made from."""
    names = [one.arm.name for one in found]
    axes = {"arms": names, "axes": "method, sample, strength", "unit": "nats"}
    run.keep("strengths", found[0].propensities.strengths)
    run.keep("rows", np.array(plan.samples.rows), what="numbers of the samples' rows in the prompt set, from 0")
    run.keep("propensity", np.stack([one.propensities.values for one in found]), **axes)
    run.keep("propensity_per_token", np.stack([one.propensities.normalised for one in found]), **axes)
    run.keep("steerability", np.stack([one.slopes.slope for one in found]), arms=names, axes="method, sample")
    for name, values in (
        ("damage_ce", [one.damage.ce for one in found]),
        ("damage_kl", [one.damage.kl for one in found]),
    ):
        run.keep(name, np.stack(values), arms=names, axes="method, context, strength", unit="nats/token")


def conclude(found: Sequence[Swept], factors: dict[str, list[Explained]], plan: Plan, run: Run) -> None:
    """The last numbers, and a sentence."""
    one, control = found[0], next(each for each in found if each.arm.control)
    s, at = one.summary, one.matched
    values = {
        "steerability": s.mean, "anti_steerable": s.anti, "normalised": s.normalised,
        "matched_shift": at.shift, "matched_success": at.share, "distance": float(one.distances.plain[-1]),
    }  # fmt: skip
    if factors:
        values["eta2"] = factors[one.arm.name][0].eta2
    run.log(float(one.propensities.strengths[-1]), **values)
    low, high = s.anti_interval
    run.say(
        f"{one.arm.name}: mean steerability {s.mean:.3g} ± {s.sd:.3g} nats per unit of strength over {s.n} held-out samples; "
        f"{s.anti:.0%} are anti-steerable (95 % interval {low:.0%} to {high:.0%}). The random vector: "
        f"{control.summary.mean:.3g} ± {control.summary.sd:.3g}, {control.summary.anti:.0%}."
    )
    bent = float(one.slopes.saturated.mean())
    if bent > 0.25:
        run.say(
            f"{bent:.0%} of the curves flatten or turn within the range, so their slopes depend on it; use a narrower range.",
            "warning",
        )
