"""The experiment ``learned-steering``: a network that changes a label in an activation, and what it changes besides."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import Field

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import (
    Batch,
    Device,
    Dtype,
    HookName,
    LearningRate,
    ModelRef,
    Parameters,
    PrependBos,
    PromptsRef,
    Seed,
    Steps,
    Threads,
)

if TYPE_CHECKING:
    import torch

    from engine.runs.run import Run
    from engine.steering.learned import Readout, ShiftTrainer
    from engine.steering.learned_task import Task

SAFE_EVERY = 20.0  # seconds between checkpoints
MATTERS = 0.9  # share of clean answers that have to be right, or success says little


class LearnedSteering(Parameters):
    """Parameters of ``learned-steering``."""

    model: ModelRef = "demo"
    prompts: PromptsRef = "story-objects"
    hook: HookName = "blocks.1.hook_resid_mid"
    beta: float = Field(0.1, ge=0, le=1_000, description="Price β of moving: times |x′ − x|² / |x|² in the loss")
    held_out: float = Field(
        0.1, ge=0, le=0.5, description="Share of the pairs of labels (y, y′) that f is not trained on"
    )
    test_share: float = Field(
        0.3, gt=0, lt=1, description="Share of the prompts that f is judged on and not trained on"
    )
    steps: Steps = 600
    batch: Batch = 64
    lr: LearningRate = 3e-3
    hidden: int = Field(256, ge=1, le=16_384, description="Hidden neurons of f")
    seed: Seed = 0
    device: Device = "auto"
    dtype: Dtype = "float32"
    threads: Threads = 0
    prepend_bos: PrependBos = True


@experiment(
    "learned-steering",
    title="Learned steering",
    area="Steering",
    cites="Tan 2024, learned nonlinear steering; Singh, Ravfogel et al. 2024, Representation surgery",
    resumable=True,
    metrics={
        "shift_loss": Metric(
            "Loss", "nats", "Cross-entropy of the targets plus β |x′ − x|² / |x|², means of 10 steps", "log"
        ),
        "shift_success": Metric("Success", "share", "Share of the batch whose likeliest answer is the target's"),
        "shift_step": Metric("Step", "|x|", "Mean |x′ − x| / |x| of the batch"),
    },
)
def learned_steering(p: LearnedSteering, run: Run) -> None:
    """Train f(x, y, y′) = x + MLP([x, y, y′]) to turn an activation of label y into one of label y′, and see what it does.

    f stands at ``hook``, at the last token of each prompt, and is trained **through the frozen rest of the model** on the
    cross-entropy of the answer that belongs to y′, with a price β on moving. It sees part of the prompts, and of the pairs
    (y, y′) some are left out: what it does there tells a rule from a table. The set needs labels, and the positive completion
    of a row is its label's answer (only the answer's first token counts). Logits are compared among the labels' answers.

    **How to read it.** *Methods*: success of f on held-out prompts with pairs that it knows, and with pairs that it does not;
    next to it the **oracle patch**, the activation of a prompt that differs in its label alone (where the set has one), and the
    difference of the labels' means, the best linear method without training. *Distance*: how far from real activations x′ lies,
    in medians of held-out real ones. **Success alone is not steering the represented quantity**: a large enough push through
    the frozen rest answers anything. Only where distance is near 1 and the step goes the oracle's way (cosine) did f change what
    the model represents. *Pairs*: success by label and target.

    Measured with the defaults (demo model, objects in stories, before the last MLP, 54 held-out prompts): f, the oracle patch and
    the difference of means all have success 1.000, f at distance 3.4 with a step of .72 |x|, the two others at 1.0 and 1.2:
    the simplest method is the truest. One layer earlier (`blocks.0.hook_resid_post`) the last attention reads the object from
    the prompt again: **the oracle patch and the difference of means have success 0, f still 1.000** at distance 4.2. It
    does not change which object the model saw, it pushes an answer through.

    **Controls.** f told a wrong y: where it succeeds all the same it overwrites and does not turn. A random vector of equal
    norm, nothing, and chance.

    **Traps.** Where the model does not give the clean answers (the log says how many), there is no label to change. Behind
    the last attention only the last token's activation decides, so success there is cheap; before it, the model reads the
    label again from the prompt's other tokens and f has to shout it down. With few labels a linear map does as well. β = 0
    measures how much success can be forced, not how the model works. A step is a pass of the whole model forward and part of
    one back: on SmolLM2 16 prompts take some 2 s of processor time, so choose a small batch and few steps there.

    The network is kept with the run. The steering bench takes it as the method *learned* with ``learned=RUN``: it reads y
    off the activation by a linear readout, whose held-out accuracy is among the facts, and strength scales the shift.
    """
    from engine.models.opening import open_model
    from engine.steering import learned_figures, learned_task
    from engine.steering.learned import (
        ShiftNetwork,
        ShiftPlan,
        ShiftTrainer,
        held_out_pairs,
    )
    from engine.text.prompts import open_prompts

    began = time.process_time()
    model = open_model(p.model, device=p.device, dtype=p.dtype, run=run)
    prompts = open_prompts(p.prompts, work=run.work)
    task = learned_task.make_task(
        model, prompts, p.hook, prepend_bos=p.prepend_bos, share=p.test_share, seed=p.seed, run=run
    )
    accuracy = learned_task.clean_accuracy(task, run)
    reader, read_accuracy = learned_task.readout(task)
    facts = {
        "labels": len(task.classes), "fitted_prompts": len(task.fitted), "held_out_prompts": len(task.held),
        "clean_accuracy": accuracy, "readout_accuracy": read_accuracy,
    }  # fmt: skip
    for name, value in facts.items():
        run.fact(name, value)
    if accuracy < MATTERS:
        run.say(
            f"{model.facts.title} gives {accuracy:.0%} of the prompts their label's answer, so success of steering says "
            "little; choose prompts that it answers.",
            "warning",
        )
    classes = len(task.classes)
    untrained = held_out_pairs(classes, p.held_out, _source(p.seed, 0))
    plan = ShiftPlan(p.steps, p.batch, p.lr, p.hidden, p.beta)
    network = ShiftNetwork.of(task.x, classes, hidden=p.hidden, source=_source(p.seed, 1))
    trainer = ShiftTrainer(network, task.x, task.y, task.fitted, untrained, task.rest, plan, _source(p.seed, 2))
    _train(trainer, run)
    run.show("training", learned_figures.training(trainer.history.numpy(), p.batch, classes))
    _judge(p, task, trainer, reader, untrained, run)
    run.fact("cpu_seconds", round(time.process_time() - began, 1))


def _judge(
    p: LearnedSteering, task: Task, trainer: ShiftTrainer, reader: Readout, untrained: torch.Tensor, run: Run
) -> None:
    """Show what f does beside its controls, and keep it."""
    from engine.steering import learned_figures, learned_task
    from engine.steering.learned import LearnedShift, keep_learned

    network, classes = trainer.network, len(task.classes)
    run.stage("Judging f")
    found = learned_task.judge(task, network, untrained, p.seed, run)
    run.show("methods", learned_figures.methods(found, classes))
    own = [one for one in found if one.method.startswith("learned f") and "wrong" not in one.method]
    run.show("pairs", learned_figures.pairs(own, task.classes, untrained.numpy()))
    distances = learned_figures.distances(found)
    if distances is not None:
        run.show("distance", distances)
    keep_learned(run, LearnedShift(network, reader, task.classes, p.hook, p.model))
    run.keep("history", trainer.history.numpy(), axes="step; loss, success, relative step")
    run.keep("held-out prompts", task.held.cpu().numpy(), what="rows with a label, counted from 0")
    run.keep("held-out pairs", untrained.numpy(), axes="y, y′")
    run.fact("success", {one.method: one.success for one in found})
    first = own[0]
    run.say(
        f"f answers {first.success:.1%} of {first.cases:,} held-out cases with the target; it moves x by "
        f"{first.step.mean():.2f} |x|."
    )


def _source(seed: int, stream: int) -> torch.Generator:
    import numpy as np
    import torch

    mixed = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> np.uint64(1)))


def _train(trainer: ShiftTrainer, run: Run) -> None:
    """Train f, or go on from the run's checkpoint, exactly as without the interruption."""
    from engine.runs.control import RunStopped
    from engine.steering.learned import train_shift

    if run.resumed is not None:
        trainer.restore(run.resumed.arrays)
    saved = time.monotonic()

    def save(step: int) -> None:
        nonlocal saved
        if time.monotonic() - saved > SAFE_EVERY:
            run.checkpoint({"step": step}, trainer.checkpoint())
            saved = time.monotonic()

    run.stage("Training f")
    try:
        train_shift(run, trainer, each=save)
    except RunStopped:
        run.checkpoint({"step": trainer.step}, trainer.checkpoint())
        raise
