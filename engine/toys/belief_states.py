"""The experiment `belief-states`: a transformer that predicts a hidden process holds an observer's beliefs about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.beliefs.hidden_markov import ProcessName
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.beliefs.network import Plan

Array: TypeAlias = npt.NDArray[Any]
KEPT = 2_000  # sequences of the toy's text
MODEL = "The network"
COLUMNS = ("test_loss", "kl", "unexplained", "unexplained_all", "beyond_next_token")


@dataclass(frozen=True)
class _Size:
    steps: int
    layers: int
    d_model: int
    heads: int
    d_head: int
    d_mlp: int
    batch: int
    held_out: int


_SIZES = {
    "quick": _Size(60, 2, 32, 2, 16, 64, 64, 150),
    "demo": _Size(1_000, 2, 64, 2, 32, 128, 128, 1_000),
    "paper": _Size(100_000, 4, 64, 1, 8, 256, 64, 10_000),
}
_SLOWER = 3  # times as many steps for RRXOR, whose exclusive or is learnt late


class BeliefStates(Parameters):
    """Parameters of `belief-states`; those left empty come from ``size``."""

    size: Size = "demo"
    process: ProcessName = Field(
        "mess3", description="mess3: a fractal of beliefs; rrxor: beliefs that hold more than the next token"
    )
    x: float = Field(0.05, gt=0, lt=0.5, description="Mess3: chance to go to either of the other states")
    alpha: float = Field(0.85, gt=0, lt=1, description="Mess3: chance that a state shows its own token")
    context: int = Field(
        10, ge=2, le=12, description="Tokens that the network reads", json_schema_extra={"unit": "tokens"}
    )
    layers: int | None = Field(None, ge=1, le=16, description="Transformer blocks; empty: by size")
    d_model: int | None = Field(None, ge=4, le=1024, description="Width of the residual stream; empty: by size")
    heads: int | None = Field(None, ge=1, le=64, description="Attention heads per block; empty: by size")
    d_head: int | None = Field(None, ge=1, le=1024, description="Width of a head; empty: by size")
    d_mlp: int | None = Field(None, ge=1, le=16_384, description="Width of the MLPs; empty: by size")
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size, three times as many for rrxor")
    batch: int | None = Field(
        None, ge=1, le=65_536, description="Sequences per step; empty: by size", json_schema_extra={"unit": "sequences"}
    )
    lr: LearningRate = 1e-3
    held_out: int | None = Field(
        None,
        ge=50,
        le=100_000,
        description="Sequences to measure on; empty: by size",
        json_schema_extra={"unit": "sequences"},
    )
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _tokens_tell_states_apart(self) -> BeliefStates:
        if self.process == "mess3" and abs(self.alpha - (1 - self.alpha) / 2) < 1e-6:
            raise ValueError(
                "alpha=1/3 gives every state the same tokens, so there is nothing to believe; choose another"
            )
        if self.process == "mess3" and abs(1 - 3 * self.x) < 1e-6:
            raise ValueError("x=1/3 forgets its state at each step, so there is nothing to believe; choose another")
        return self


@experiment(
    "belief-states",
    title="Belief states",
    area="Toy models",
    cites="Shai, Marzen, Teixeira, Gietelink Oldenziel & Riechers 2024, Transformers represent belief state geometry in "
    "their residual stream",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric("Training loss", "nats/token", "Mean cross-entropy of one batch, before the step", group="Loss"),
        "test_loss": Metric(
            "Held-out loss",
            "nats/token",
            "Cross-entropy against the exact next-token law, held-out sequences",
            group="Loss",
        ),
        "optimum": Metric(
            "Optimum", "nats/token", "Entropy of the exact next-token law on the same sequences", group="Loss"
        ),
        "kl": Metric(
            "KL to the optimum", "nats/token", "KL divergence of the network's next-token law from the exact one", "log"
        ),
        "unexplained": Metric(
            "1 − R², last block",
            "share",
            "Belief variance that an affine probe of the last block misses, held-out histories",
            "log",
            "Unexplained",
        ),
        "unexplained_all": Metric(
            "1 − R², all blocks", "share", "The same with all blocks' streams side by side", "log", "Unexplained"
        ),
        "unexplained_untrained": Metric(
            "1 − R², untrained", "share", "Control: the last block of the network as it began", "log", "Unexplained"
        ),
        "beyond_next_token": Metric(
            "Beyond the next token",
            "share",
            "Partial R² of the belief given the next token's law, all blocks; none where that law fixes the belief",
        ),
    },
)
def belief_states(p: BeliefStates, run: Run) -> None:
    """Does a transformer that is trained only to predict the next token hold a **belief** about what generates the tokens?

    A hidden Markov process goes from state to state and shows a token at each step. The best one can know is a
    probability for each state, given all tokens so far: the belief, updated by Bayes' rule. A transformer is trained on
    the tokens alone; then an affine probe looks for the belief in its residual stream.

    **Mess3** has three states, so beliefs are points of a triangle, and they form a fractal there. **RRXOR** shows two
    random bits and then their exclusive or, again and again; five states, 36 beliefs.

    **How to read it.** *Geometry* is a movie over training: exact beliefs left, what the probe reads off the last
    block right, coloured by the truth. The cloud at the right unfolds into the fractal. *Pictures* shows the same for each
    layer in three colours, with the untrained network and shuffled beliefs beside it.

    **An untrained network already looks good**: its last block gave R² of about .9, since the last few tokens nearly
    fix a belief and a random network keeps them. So read *1 − R²* against the controls in the same figure: the
    untrained network, any function of the last 1, 2 or 3 tokens, shuffled beliefs. Measured at size demo (Mess3):
    1 − R² .101 untrained and .0076 trained, 13 times less; .030 for the last three tokens; and a KL divergence of .0015
    nats from the optimal predictions. *Loss by position* has the exact optimum for each position.

    **Good predictions alone would do for Mess3**: there the next token's law is an invertible linear map of the
    belief, so that whoever predicts well holds it. In RRXOR three states share one law. *Beyond* is the test: how much
    of the belief is found once **any function of the next token's law** is taken out, by layer and with all blocks
    side by side (layers may hold different parts). Measured at size demo: partial R² .31 with all blocks, -.07
    untrained (.06 for its last block alone); R² .53 in the last block against .30 for the last three tokens. The network
    is then .007 nats from the optimum: the exclusive or is learnt slowly, and longer training finds more.

    **Traps.** Equal histories have equal activations: probes are fitted and scored on different histories (5 folds),
    each history counted once. Wide probes on few histories overfit: a partial R² below 0 says so. The first tokens
    of a context have little past: the optimum falls with the position.

    The toy joins the session with its text, whose planted features are the beliefs. Sequences are drawn
    anew for each step, so that nothing is learnt by heart; the optimiser is Adam, where the paper has SGD.
    """
    from engine.models import memory
    from engine.toys.beliefs import figures
    from engine.toys.beliefs.hidden_markov import process
    from engine.toys.beliefs.network import BeliefTrainer
    from engine.toys.beliefs.survey import Survey
    from engine.toys.training import log_steps, train

    plan = _plan(p)
    memory.require(_bytes(plan), "cpu", what=MODEL, way_out="choose a smaller width or fewer held-out sequences")
    source = process(p.process, p.x, p.alpha)
    at = log_steps(plan.steps, FRAMES[p.size])
    trainer = BeliefTrainer(plan, source, len(at), len(COLUMNS))
    run.stage("Computing exact beliefs")
    optimal = source.optimal_losses(plan.context + 1)
    survey = Survey(source, trainer.held_out(), p.seed)
    start = trainer.outputs(survey.tokens, untrained=True)
    untrained, recent = survey.read(start), survey.recent()
    shuffled = survey.shuffled_scores(start)
    none = 1 - shuffled[-2].r2
    optimum, start_kl = float(survey.entropy.mean()), float(survey.divergence(start).mean())
    shown = figures.shown(survey, p.seed)
    run.keep("held_out", survey.tokens.astype(np.int8), what="token ids", axes="sequence, position")
    run.keep("optimal_loss", optimal, unit="nats/token", what="of the token after 0, 1, 2 … others")
    run.fact("histories", len(survey.belief))
    run.fact("optimum", optimum)
    many = bool(np.isfinite(untrained.beyond).any())

    def measure(step: int) -> None:
        found = trainer.outputs(survey.tokens)
        reading = survey.read(found, beyond=many)
        kl = survey.divergence(found)
        missing = reading.unexplained
        row = (optimum + kl.mean(), kl.mean(), missing[-2], missing[-1], reading.beyond[-1])
        number = at.index(step)
        trainer.history[number] = trainer.history.new_tensor(row)
        logged = {name: float(value) for name, value in zip(COLUMNS, row, strict=True) if np.isfinite(value)}
        run.log(step, **logged, optimum=optimum, unexplained_untrained=float(untrained.unexplained[-2]))
        past, steps = trainer.history[: number + 1].numpy(), at[: number + 1]
        run.show("geometry", figures.geometry(survey, reading.scores[-2], shown), step=step)
        run.show("loss by position", figures.loss_by_position(optimal, kl), step=step)
        run.show("by layer", figures.by_layer(missing, untrained.unexplained, recent, none), step=step)
        if many:
            run.show("beyond", figures.beyond_by_layer(reading.beyond, untrained.beyond), step=step)
        run.show("loss", figures.loss(steps, past[:, 0], optimum, float(optimal[0]), len(survey.tokens)))
        run.show("divergence", figures.divergence_curve(steps, past[:, 1], len(survey.tokens), start_kl))
        run.show("unexplained", figures.over_steps(steps, past[:, 2], past[:, 3], untrained.unexplained, recent, none))

    train(run, trainer, plan.steps, measure=measure, at=at, lr=p.lr)
    run.stage("Comparing with the controls")
    found = trainer.outputs(survey.tokens)
    reading = survey.read(found)
    shuffled = survey.shuffled_scores(found)
    names = figures.layer_names(plan.layers)
    parts = [("truth", survey.belief)]
    parts += [(name, score.predicted) for name, score in zip(names, reading.scores, strict=True)]
    parts += [("untrained", untrained.scores[-2].predicted), ("shuffled", shuffled[-2].predicted)]
    run.show("pictures", figures.pictures(survey, parts))
    run.show("probes", figures.table(survey, reading, untrained, shuffled, recent))
    run.fact("times_less_than_untrained", float(untrained.unexplained[-2] / reading.unexplained[-2]))
    _keep(p, run, trainer)


def _plan(p: BeliefStates) -> Plan:
    from engine.toys.beliefs.network import Plan

    size = _SIZES[p.size]
    return Plan(
        layers=p.layers or size.layers, d_model=p.d_model or size.d_model, heads=p.heads or size.heads,
        d_head=p.d_head or size.d_head, d_mlp=p.d_mlp or size.d_mlp, context=p.context, batch=p.batch or size.batch,
        steps=p.steps or size.steps * (_SLOWER if p.process == "rrxor" else 1), lr=p.lr,
        held_out=p.held_out or size.held_out, seed=p.seed,
    )  # fmt: skip


def _bytes(plan: Plan) -> int:
    inner = 4 * plan.heads * plan.d_head + 2 * plan.d_mlp
    weights = plan.layers * plan.d_model * inner
    step = plan.batch * plan.context * plan.layers * (8 * plan.d_model + inner)
    rows = plan.held_out * plan.context
    streams = rows * plan.d_model * (plan.layers + 1)
    return 4 * (4 * weights + 2 * step + 2 * streams) + 8 * rows * plan.d_model * plan.layers * 3 + 400_000_000


def _keep(p: BeliefStates, run: Run, trainer: Any) -> None:
    """The network with sequences of its process, whose features are the beliefs."""
    from engine.models.native import load_native
    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy

    source = trainer.process
    random = np.random.default_rng([p.seed, 7])
    tokens, _ = source.sample(min(KEPT, 40_000 // trainer.plan.context), trainer.plan.context, random)
    features = source.beliefs(tokens).astype(np.float16)
    names = tuple(f"belief {name}" for name in source.states)
    data = ToyData(tokens.astype(np.int32), features=features, names=names, next_token=True)
    title = f"Belief states, {'Mess3' if p.process == 'mess3' else 'RRXOR'}"
    keep_toy(run, load_native(*trainer.native()), data, title=title, process=p.process, x=p.x, alpha=p.alpha)


@cost("belief-states")
def _cost(p: BeliefStates) -> Cost:
    from engine.models.memory import available
    from engine.toys.beliefs.hidden_markov import process
    from engine.toys.beliefs.network import BeliefTrainer
    from engine.toys.beliefs.survey import Survey

    plan = _plan(p)
    if _bytes(plan) > available():
        return Cost(0.0, _bytes(plan))
    trainer = BeliefTrainer(plan, process(p.process, p.x, p.alpha), 1, len(COLUMNS))
    seconds = timed(trainer.train_step, plan.steps)
    survey = Survey(trainer.process, trainer.held_out(), p.seed)

    def look() -> None:
        found = trainer.outputs(survey.tokens)
        survey.divergence(found)
        survey.read(found)

    seconds += timed(look, FRAMES[p.size], measured=2, warm=0)
    return Cost(seconds, _bytes(plan))
