"""The experiment `feature-splitting-learned`: families of features as a transformer learns them, and what splits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.small_dictionaries import Bench
    from engine.toys.splitting.learned import Learned
    from engine.toys.splitting.network import FamilyTrainer

BATCH = 1_024  # a table of cells that is no larger is one batch
DICTIONARY_LR = 7e-3
KS = (2, 4)  # beside k = 1, in the world with the middle ε
ROUND_TOKENS = 2  # whose circles are drawn
KEPT = 1_024  # sequences of the toy's data


@dataclass(frozen=True)
class _Size:
    tokens: int
    contexts: int
    angles: int
    epsilons: tuple[float, ...]
    d_model: int
    d_mlp: int
    steps: int
    widths: tuple[int, ...]
    dictionary_steps: int


_SIZES = {
    "quick": _Size(6, 4, 8, (0.0, 0.5), 16, 32, 60, (6, 24), 30),
    "demo": _Size(16, 8, 24, (0.0, 0.25, 0.5, 1.0), 32, 128, 700, (16, 32, 64, 128, 256), 200),
    "paper": _Size(64, 16, 48, (0.0, 0.125, 0.25, 0.5, 1.0), 64, 256, 10_000, (64, 128, 256, 512, 1_024, 2_048), 3_000),
}
_Width: TypeAlias = Annotated[int, Field(ge=1, le=16_384)]
_Epsilon: TypeAlias = Annotated[float, Field(ge=0, le=4)]


class FeatureSplittingLearned(Parameters):
    """Parameters of `feature-splitting-learned`; those left empty come from ``size``."""

    size: Size = "demo"
    tokens: int | None = Field(None, ge=2, le=256, description="Tokens: families of features; empty: by size")
    contexts: int | None = Field(None, ge=2, le=64, description="Contexts of each token; empty: by size")
    angles: int | None = Field(None, ge=4, le=256, description="Contexts on the circle; empty: by size")
    outputs: int = Field(40, ge=4, le=512, description="Possible next tokens")
    beta: float = Field(3.0, ge=0.01, le=20, description="How peaked the next token's law is")
    epsilons: list[_Epsilon] | None = Field(
        None,
        min_length=2,
        max_length=8,
        description="Sizes of the contexts' part, 0 among them as control; empty: by size",
    )
    steps: Steps | None = Field(None, description="Optimiser steps of the transformers; empty: by size")
    lr: LearningRate = 1e-2
    widths: list[_Width] | None = Field(None, min_length=1, max_length=8, description="Widths; empty: by size")
    dictionary_steps: int | None = Field(
        None, ge=1, le=10**6, description="Optimiser steps of each dictionary; empty: by size"
    )
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _the_control_is_there(self) -> FeatureSplittingLearned:
        if self.epsilons is not None and (0 not in self.epsilons or not any(self.epsilons)):
            raise ValueError(f"epsilons={self.epsilons} needs 0, the control without contexts, and a larger one")
        small = [epsilon for epsilon in self.epsilons or [] if 0 < epsilon < 0.001]
        if small:
            raise ValueError(f"epsilons has {small[0]:g}, which is next to nothing; choose 0 or at least 0.001")
        return self


METRICS = {
    "loss": Metric(
        "Above the floor", "nats", "Exact expected cross-entropy less its floor, mean over transformers", "log"
    ),
    "fvu": Metric("Unexplained variance", "share", "Mean over all dictionaries of Σ ‖x̂ − x‖² / Σ ‖x − mean‖²", "log"),
    "living": Metric("Living latents", "latents", "Widest dictionary, k = 1, middle ε", group="living"),
    "living_control": Metric(
        "Living latents, ε = 0", "latents", "The same in the control without contexts", group="living"
    ),
}


@experiment(
    "feature-splitting-learned",
    title="Feature splitting, learned",
    area="Toy models",
    cites="Bricken et al. 2023, Towards Monosemanticity; Chanin et al. 2024, A is for Absorption",
    resumable=True,
    estimate="toy-estimate",
    metrics=METRICS,
)
def feature_splitting_learned(p: FeatureSplittingLearned, run: Run) -> None:
    """Let transformers learn tokens whose meaning depends a little on their context, and see dictionaries split them.

    A transformer with one block reads a context and a token and predicts what follows, by the law
    softmax(β (g_t + ε d_{t,c})). A token is a family of features, one for each context, that drive nearly the same outputs;
    ε says how nearly. One transformer learns each ε, one a world without families (**control**), and one contexts that are
    angles on a **circle**: the other explanation of splitting, a feature that is not discrete at all. Then TopK dictionaries of
    rising width are trained on the residual stream behind the block at the token.

    **How to read it.** *logits* (stage one): the families gather first and part into contexts later. *models*: how far each
    transformer is above the exact floor. *fvu*: unexplained variance over living latents, beside the line that orthogonal
    contexts would give; learned contexts lie below it, as they share dimensions. *firing* and *circle*: latents against
    cells while the dictionaries learn. *cosines*: the latents that one family was split into resemble each other, and
    their logit effects do more, the smaller ε is. *arcs*: on the circle a latent's contexts are neighbours.

    **What to expect** (measured at demo size). The transformers end .0002 to .014 nats above their floors. With ε = 0 16 latents
    live at any width from 32 on, one for a token; with ε = .5 all 32, 64 and 128, until each cell has its own. So near-
    identical features are split although a common direction exists. Cosine of two atoms of one family at width 64: .91,
    .76, .52 for ε = .25, .5, 1, of their logit effects .94, .81, .54; without families .06 and .01. Splitting by itself is
    no sign of a continuous feature: the stretches are. On the circle a latent serves exactly one, at every width; discrete
    contexts are grouped in any order, 1.3 to 1.7 stretches for a latent.

    **Controls.** ε = 0 (must not split) and independent cells (no families to split), in every figure.

    **Traps.** Living latents, not the width, say how far splitting has come: many die. A dictionary that starts at too few rows
    leaves a token without a latent, which *dictionaries* counts.

    The transformer with the middle ε is added as `toy:RUN`, with tokens and cells as its text's features.
    """
    from engine.models import memory
    from engine.toys.splitting import families as splitting
    from engine.toys.splitting import figures
    from engine.toys.splitting import learned as splitting_learned
    from engine.toys.stages import first_stage, second_stage
    from engine.toys.training import log_steps, train

    size, main = _SIZES[p.size], _main(p)
    memory.require(
        _bytes(p), "cpu", what="Training on so many cells", way_out="choose fewer tokens, contexts or widths"
    )
    trainer = _trainer(p)
    untrained = trainer.excesses()
    steps, few = p.steps or size.steps, max(FRAMES[p.size] // 2, 6)

    def watch(step: int) -> None:
        run.show("logits", splitting_learned.logits_scatter(trainer, main), step=step)

    at = log_steps(steps, few)
    spent = first_stage(run, trainer, lambda: train(run, trainer, steps, measure=watch, at=at, lr=p.lr))
    worlds = [
        splitting_learned.learned(*each)
        for each in zip(trainer.worlds, trainer.activations(), trainer.unembeddings(), strict=True)
    ]
    run.show("models", splitting_learned.models_table(trainer, untrained, worlds))
    bench, of = _bench(p, worlds, trainer)
    where = {(world, one.job.width, one.job.k): n for n, (world, one) in enumerate(zip(of, bench.small, strict=True))}
    widths, zero, last = _widths(p), _epsilons(p).index(0), len(worlds) - 1
    shown = widths[len(widths) // 2]
    drawn = {world: figures.drawn_cells(worlds[world].planted) for world in (main, zero)}
    drawn[last] = figures.drawn_cells(worlds[last].planted, ROUND_TOKENS)

    def rows(wanted: list[tuple[str, int, int]]) -> list[figures.Row]:
        found = [(head, bench.small[where[world, width, 1]], world) for head, world, width in wanted]
        return [(head, one, figures.row_order(one, drawn[world])) for head, one, world in found]

    split = rows([(f"{worlds[main].world.name}: ", main, shown), ("ε = 0: ", zero, shown)])
    circle = rows([("", last, widths[-1])])

    def measure(step: int) -> None:
        found = [splitting.measure(one, worlds[world].planted) for one, world in zip(bench.small, of, strict=True)]
        run.log(
            step,
            living=found[where[main, widths[-1], 1]].alive,
            living_control=found[where[zero, widths[-1], 1]].alive,
        )
        run.show("fvu", splitting_learned.fvu_lines(bench, found, of, worlds, main), step=step)
        title = f"Which latents fire where, width {shown}, k = 1"
        run.show("firing", figures.firing_map(title, split, worlds[main].planted), step=step)
        title = f"Which latents fire where on the circle, width {widths[-1]}, k = 1"
        run.show("circle", figures.firing_map(title, circle, worlds[last].planted, ROUND_TOKENS), step=step)

    rounds = p.dictionary_steps or size.dictionary_steps
    second_stage(run, bench, rounds, spent, measure=measure, at=log_steps(rounds, few), lr=DICTIONARY_LR)
    _finish(bench, of, where, worlds, p, run)
    _keep(trainer, worlds[main], main, p, run)


def _widths(p: FeatureSplittingLearned) -> list[int]:
    return sorted(set(p.widths or _SIZES[p.size].widths))


def _epsilons(p: FeatureSplittingLearned) -> list[float]:
    return sorted(set(p.epsilons or _SIZES[p.size].epsilons))


def _main(p: FeatureSplittingLearned) -> int:
    """The world with the middle of the values of ε above 0."""
    return 1 + (len(_epsilons(p)) - 1) // 2 if len(_epsilons(p)) > 2 else 1


def _trainer(p: FeatureSplittingLearned) -> FamilyTrainer:
    from engine.toys.splitting.network import make

    size, epsilons = _SIZES[p.size], _epsilons(p)
    return make(
        p.tokens or size.tokens,
        p.contexts or size.contexts,
        p.angles or size.angles,
        epsilons,
        epsilons[_main(p)],
        outputs=p.outputs,
        beta=p.beta,
        d_model=size.d_model,
        d_mlp=size.d_mlp,
        steps=p.steps or size.steps,
        lr=p.lr,
        seed=p.seed,
    )


def _bytes(p: FeatureSplittingLearned) -> int:
    """Of the transformers' logits and hidden layers on all cells, and of the dictionaries."""
    from engine.toys.small_dictionaries import bytes_of

    size = _SIZES[p.size]
    tokens, contexts, angles = p.tokens or size.tokens, p.contexts or size.contexts, p.angles or size.angles
    cells = [tokens * contexts] * (len(_epsilons(p)) + 1) + [tokens * angles]
    words = tokens + max(contexts, angles) + p.outputs
    rows = cells + [tokens * contexts] * len(KS)  # of each dictionary's data
    dictionaries = bytes_of((n, size.d_model, width) for n in rows for width in _widths(p))
    return 16 * sum(cells) * (words + size.d_mlp) + dictionaries


def _bench(p: FeatureSplittingLearned, worlds: list[Learned], trainer: FamilyTrainer) -> tuple[Bench, list[int]]:
    """Dictionaries, and the number of the world of each."""
    from engine.toys.small_dictionaries import Bench, Job

    jobs, of = [], []
    for number, one in enumerate(worlds):
        for k in (1, *KS) if number == _main(p) else (1,):
            jobs += [Job("cells", one.planted.cells, width, k, label=one.world.name) for width in _widths(p)]
            of += [number] * len(_widths(p))
    steps = p.dictionary_steps or _SIZES[p.size].dictionary_steps
    carried = {name: tensor.detach() for name, tensor in trainer.weights.items()}
    return Bench(jobs, steps=steps, lr=DICTIONARY_LR, batch=BATCH, seed=p.seed, carried=carried), of


def _finish(
    bench: Bench,
    of: list[int],
    where: dict[tuple[int, int, int], int],
    worlds: list[Learned],
    p: FeatureSplittingLearned,
    run: Run,
) -> None:
    """The figures that need trained dictionaries."""
    import torch

    from engine.toys.small_dictionaries import largest_cosine
    from engine.toys.splitting import families as splitting
    from engine.toys.splitting import figures
    from engine.toys.splitting import learned as splitting_learned
    from engine.toys.training import generator

    pairs = list(zip(bench.small, of, strict=True))
    found = [splitting.measure(one, worlds[world].planted) for one, world in pairs]
    effects = [splitting_learned.logit_cosine(one, worlds[world]) for one, world in pairs]
    stretches = [splitting_learned.runs(one, worlds[world].planted) for one, world in pairs]
    widths, main, epsilons = _widths(p), _main(p), _epsilons(p)
    last, control = len(worlds) - 1, len(epsilons)
    middle = widths[len(widths) // 2]
    rows = [(e, found[where[n, middle, 1]], effects[where[n, middle, 1]]) for n, e in enumerate(epsilons)]
    of_control = where[control, middle, 1]
    run.show("cosines", splitting_learned.cosine_lines(rows, (found[of_control], effects[of_control]), middle))
    names = {last: "circle of contexts", main: f"control: discrete contexts, {worlds[main].world.name}"}
    arcs = {name: [(width, stretches[where[n, width, 1]]) for width in widths] for n, name in names.items()}
    run.show("arcs", splitting_learned.arcs_lines(arcs))
    planted = worlds[main].planted
    levels = [(width, bench.small[where[main, width, 1]]) for width in widths if width <= len(planted.cells)]
    run.show("tree", figures.tree(levels, planted))
    chance = {}
    for width in widths:
        atoms = torch.randn(width, planted.cells.shape[1], generator=generator(p.seed, 5))
        chance[width] = float(largest_cosine(atoms, planted.parents).mean())
    extra = {"Cosine of logit effects in a family": effects, "Stretches of contexts": stretches}
    note = " u_t: a token's mean activation less the mean of all. Derived: as if contexts were orthogonal."
    run.show("dictionaries", figures.table(bench, found, chance, extra, note))


def _keep(trainer: FamilyTrainer, one: Learned, main: int, p: FeatureSplittingLearned, run: Run) -> None:
    """The transformer with the middle ε; of its text only the token's position counts."""
    import numpy as np

    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy
    from engine.toys.splitting.figures import cell_names

    tokens, contexts = one.world.tokens, one.world.contexts
    random = np.random.default_rng([p.seed, 4])
    cells = np.arange(KEPT) % (tokens * contexts)
    laws = np.cumsum(one.world.laws.transpose(0, 1).flatten(0, 1).double().numpy(), axis=1)[cells]
    following = np.minimum((laws < random.random((KEPT, 1))).sum(axis=1), laws.shape[1] - 1)
    ids = np.stack((cells % contexts, contexts + cells // contexts, contexts + tokens + following), axis=1)
    names = (*(f"t{t}" for t in range(tokens)), *cell_names(one.planted))
    features = np.zeros((KEPT, 3, len(names)), np.uint8)
    features[np.arange(KEPT), 1, cells // contexts] = 1
    features[np.arange(KEPT), 1, tokens + cells] = 1
    counted = np.zeros(ids.shape, bool)
    counted[:, 1] = True
    directions = np.concatenate((one.planted.parents.numpy(), one.planted.children.flatten(0, 1).numpy()))
    keep_toy(
        run,
        trainer.ensembles[0].model(main),
        ToyData(ids, counted, features, names, next_token=True),
        title=f"Learned families, {tokens} tokens in {contexts} contexts, {one.world.name}",
        planted={"blocks.0.hook_resid_post": (names, directions)},
    )


@cost("feature-splitting-learned")
def _cost(p: FeatureSplittingLearned) -> Cost:
    from engine.models.memory import available
    from engine.toys.splitting.learned import learned

    if _bytes(p) > available():
        return Cost(0.0, _bytes(p))
    size, trainer = _SIZES[p.size], _trainer(p)
    seconds = timed(trainer.train_step, p.steps or size.steps)
    worlds = [
        learned(*each) for each in zip(trainer.worlds, trainer.activations(), trainer.unembeddings(), strict=True)
    ]
    bench, _ = _bench(p, worlds, trainer)
    seconds += timed(bench.train_step, p.dictionary_steps or size.dictionary_steps, measured=3, warm=1)
    return Cost(seconds, _bytes(p))
