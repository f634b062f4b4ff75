"""The experiment `universal-and`: more ANDs than neurons, by circuits with known theory and by training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from engine.runs.declaration import Metric, experiment
from engine.runs.parameters import Batch, LearningRate, Parameters, Seed, Steps, Threads
from engine.toys.costs import Cost, cost, timed
from engine.toys.sizes import FRAMES, Size

if TYPE_CHECKING:
    from engine.runs.run import Run
    from engine.toys.boolean.circuits import AndTrainer, Circuit, World
    from engine.toys.boolean.measures import Bench

LARGEST = 64_000_000  # numbers in a readout
KEPT_VALUES = 200_000  # values of features kept with the toy


@dataclass(frozen=True)
class _Size:
    bits: int
    trained: tuple[int, ...]
    compared: tuple[int, ...]
    neurons: int
    steps: int
    batch: int
    samples: int
    draws: int
    dictionary_steps: int


_SIZES = {
    "quick": _Size(12, (16, 32), (16, 64, 256), 128, 100, 128, 1_000, 2, 20),
    "demo": _Size(24, (32, 64, 128), (32, 64, 128, 256, 512, 1024, 2048), 384, 1_500, 256, 2_048, 3, 300),
    "paper": _Size(100, (128, 500, 1000), (64, 128, 256, 512, 1024, 2048, 4096), 2048, 5_000, 1024, 2_048, 3, 500),
}


class UniversalAnd(Parameters):
    """Parameters of `universal-and`; those left empty come from ``size``."""

    size: Size = "demo"
    bits: int | None = Field(None, ge=4, le=256, description="Input bits m; empty: by size")
    active: int = Field(3, ge=2, le=32, description="Bits that are on in an input")
    inputs: Literal["exact", "bernoulli"] = Field(
        "exact", description="exact: always so many bits on; bernoulli: each by itself, so many on average"
    )
    trained: list[int] | None = Field(None, min_length=1, max_length=6, description="Neurons of the trained networks")
    compared: list[int] | None = Field(
        None, min_length=1, max_length=16, description="Neurons of the constructed circuits that are compared"
    )
    sparse_density: float = Field(0.2, gt=0, le=1, description="Chance that a neuron of the sparse circuit reads a bit")
    circuit: Literal["dense sign", "sparse", "learned"] = Field(
        "dense sign", description="The circuit that is spread over layers, taken apart and kept as a model"
    )
    neurons: int | None = Field(
        None, ge=2, le=65_536, description="Its neurons; empty: by size, or the largest trained network's"
    )
    layers: int = Field(8, ge=1, le=32, description="MLPs that its neurons are spread over")
    steps: Steps | None = Field(None, description="Optimiser steps; empty: by size")
    batch: Batch | None = Field(None, description="Inputs per optimiser step; empty: by size")
    lr: LearningRate = 3e-3
    positive_weight: float = Field(1.0, gt=0, le=10_000, description="Weight of errors at pairs that are on")
    seed: Seed = 0
    threads: Threads = 1

    @model_validator(mode="after")
    def _sizes_fit(self) -> UniversalAnd:
        plan = _SIZES[self.size]
        bits = self.bits or plan.bits
        pairs = bits * (bits - 1) // 2
        if self.active >= bits:
            raise ValueError(
                f"active={self.active} of bits={bits} leaves no pair that is off; choose at most {bits - 1}"
            )
        for name, counts in (("trained", self.trained), ("compared", self.compared)):
            wrong = [d for d in counts or [] if not 1 <= d <= 65_536]
            if wrong:
                raise ValueError(f"{name} has {wrong[0]} hidden neurons; choose between 1 and 65,536")
            if counts and len(set(counts)) < len(counts):
                raise ValueError(f"{name}={counts} names a size twice; name each once")
        if self.circuit == "learned" and self.neurons not in (None, *self._trained):
            raise ValueError(
                f"neurons={self.neurons} is no trained network's size; choose one of trained={sorted(self._trained)}"
            )
        if self._neurons < self.layers:
            raise ValueError(f"neurons={self._neurons} cannot be spread over layers={self.layers}; choose fewer layers")
        most = max(*self._trained, *(self.compared or plan.compared), self._neurons)
        if most * pairs > LARGEST:
            raise ValueError(
                f"bits={bits} make {pairs:,} pairs, whose readout from {most:,} neurons has more than {LARGEST:,} "
                "weights; choose fewer bits or neurons"
            )
        return self

    @property
    def _trained(self) -> tuple[int, ...]:
        return tuple(sorted(self.trained or _SIZES[self.size].trained))

    @property
    def _neurons(self) -> int:
        if self.neurons is not None:
            return self.neurons
        return max(self._trained) if self.circuit == "learned" else _SIZES[self.size].neurons


@experiment(
    "universal-and",
    title="Universal AND",
    area="Toy models",
    cites="Vaintrob, Mendel & Hänni 2024; Hänni, Mendel, Vaintrob & Chan 2024; Newgas 2025",
    resumable=True,
    estimate="toy-estimate",
    metrics={
        "loss": Metric(
            "Training loss", "", "Weighted mean squared error of a batch, mean over the trained networks", "log"
        ),
        "mse": Metric("Test MSE", "", "Mean squared error of the largest trained network on the test inputs", "log"),
        "explained": Metric("Variance explained", "share", "1 - MSE / MSE of always answering the mean"),
        "separation": Metric(
            "Separation d'", "sd", "(mean at positives - mean at negatives) / root mean square of their spreads"
        ),
        "error": Metric(
            "Balanced error",
            "share",
            "Mean of the shares of positives missed and negatives taken for positives, at the best threshold",
            group="error",
        ),
        "error_at_half": Metric(
            "Balanced error at .5", "share", "The same at the threshold .5, which MSE makes a trap", group="error"
        ),
    },
)
def universal_and(p: UniversalAnd, run: Run) -> None:
    """One ReLU layer computes the AND of every pair of bits, with fewer neurons than pairs: circuits built by hand
    from theory, and networks that learn it.

    Of m bits s = 3 are on; the m(m-1)/2 outputs are to be 1 where both bits of a pair are on. **Dense sign**: all
    weights are ±1, and a pair is read out by the product of its two signs; no neuron belongs to any pair, and the noise
    at negatives has sd sqrt(24/d). **Sparse**: a neuron reads a few bits and stays silent unless two of them are on;
    pairs that no neuron reads are missed. **Learned**: trained by mean squared error.

    **How to read it.** *Separation* and *Balanced error* show all of them, and the controls, against the number of
    neurons d; dense sign follows its theory. *Least squares* keeps a circuit's hidden layer and fits the readout:
    it separates good features from a good readout. **The controls matter.** A Gaussian hidden layer that nobody
    designed explains .44 of the variance at d = 128 once its readout is fitted, the ±1 layer .50, the trained network .48:
    nearly all of what training brings is the linear readout. And an AND is linearly separable: the *bits alone*,
    without any ReLU, tell pairs apart at d' = 5.5 with no error at the best threshold. What they cannot do is give the
    value: they explain .16 of the variance. So look at *Variance explained*, too.

    **The trap.** A pair is on once in 90 times, so MSE shrinks the outputs: a learned network's mean at positives is
    .19, .29, .48 with 32, 64, 128 neurons, and at the threshold .5 its error reads as chance (.50, .50, .31) although d'
    is 4.9 to 7.5 and the error at the best threshold below 1 in 200. “Never” has an accuracy of 99 %. A linear map
    through d neurons explains about d / pairs of the variance (.12, .23, .46); learned networks .19, .28, .48.

    **Across layers.** The chosen circuit's neurons are dealt out to L MLPs which all read the bits and add to the same
    outputs. The last output is that of the one-layer circuit; after l layers the mean at positives is l/L, the noise
    sqrt(l/L), d' sqrt(l/L): each layer holds a noisy part of *all* ANDs, and no layer computes any. The control, all
    neurons in one layer, is a step. *Dictionaries* trained on the outputs layer by layer come nearer and nearer to
    the ANDs' directions (mean largest cosine .23 to .42; Gaussian noise of the same covariance .16).

    **Truth table**: neurons by their two weights for a pair. In the dense circuit the sum A - B1 - B2 + C of four
    classes gives 0, 0, 0, 1; no class does. **Robustness**: other numbers of active bits at fixed weights. **Readout of
    four neurons** and **Input weights** are movies of the training.

    The chosen circuit is in the session as `toy:RUN`; its output directions are planted features.
    """
    from engine.toys.boolean.circuits import AndTrainer, World
    from engine.toys.boolean.measures import Bench
    from engine.toys.training import log_steps, train

    plan = _SIZES[p.size]
    world = World(p.bits or plan.bits, p.active, p.inputs == "exact")
    _require(p, world)
    run.stage("Preparing")
    bench = Bench(world, plan.samples, max(4_096, 4 * plan.samples) if p.size != "quick" else 2_048, p.seed)
    steps = p.steps or plan.steps
    trainer = _trainer(p, world, steps)
    at = log_steps(steps, FRAMES[p.size])
    live = _Live(trainer, bench, at, p, run)
    train(run, trainer, steps, measure=live.measure, at=at, lr=p.lr)
    learned = {d: trainer.circuit(d) for d in trainer.neurons}
    run.stage("Comparing circuits")
    _compare(p, bench, learned, AndTrainer.circuit(live.untrained, max(trainer.neurons)), run)
    run.stage("Spreading over layers")
    _take_apart(p, bench, learned, run)
    run.fact("pairs", world.pairs.shape[1])


def _trainer(p: UniversalAnd, world: World, steps: int) -> AndTrainer:
    from engine.toys.boolean.circuits import AndTrainer

    return AndTrainer(
        world,
        p._trained,
        steps=steps,
        batch=p.batch or _SIZES[p.size].batch,
        lr=p.lr,
        seed=p.seed,
        positive_weight=p.positive_weight,
    )


def _memory(p: UniversalAnd, world: World) -> int:
    """Bytes at the peak: the largest readout a few times, the outputs of all test inputs, and a dictionary on them."""
    plan = _SIZES[p.size]
    pairs = world.pairs.shape[1]
    most = max(*p._trained, *(p.compared or plan.compared), p._neurons)
    rows = max(plan.samples * p.layers, 4 * plan.samples, p.batch or plan.batch)
    return 4 * pairs * (4 * most + 3 * rows) + 16 * most**2 + 40 * pairs**2


def _require(p: UniversalAnd, world: World) -> None:
    from engine.models import memory

    memory.require(
        _memory(p, world),
        "cpu",
        what=f"A readout of all pairs of {world.bits} bits",
        way_out="choose fewer bits or neurons or a smaller batch",
    )


@cost("universal-and")
def _cost(p: UniversalAnd) -> Cost:
    from engine.models.memory import available
    from engine.toys.boolean.circuits import World

    plan = _SIZES[p.size]
    world = World(p.bits or plan.bits, p.active, p.inputs == "exact")
    if _memory(p, world) > available():
        return Cost(0.0, _memory(p, world))
    steps = p.steps or plan.steps
    seconds = timed(_trainer(p, world, steps).train_step, steps)
    pairs = world.pairs.shape[1]
    products = sum(p.compared or plan.compared) * 3 * plan.draws * plan.samples + p._neurons * 30 * plan.samples
    after = 2e-10 * pairs * products + 2e-10 * 8 * plan.dictionary_steps * 256 * pairs**2
    return Cost(seconds + after, _memory(p, world))


class _Live:
    """Measures the networks while they train: metrics, the curve of the error and the movie."""

    def __init__(self, trainer: AndTrainer, bench: Bench, at: list[int], p: UniversalAnd, run: Run) -> None:
        import torch

        self.trainer, self.bench, self.at, self.run = trainer, bench, at, run
        self.untrained = _trainer(p, bench.world, trainer.steps)
        self.curve = torch.full((len(at), len(trainer.neurons)), float("nan"))
        trainer.extra["curve"] = self.curve
        rate, most = bench.world.rate, max(trainer.neurons)
        constructed = bench.constructed(most, p.sparse_density)
        fitted = {name: bench.fit(constructed[name]) for name in ("sparse", "Gaussian")}
        self.references = {
            "always 0": rate,
            "always the mean": rate * (1 - rate),
            "bits alone, least squares": bench.score(bench.bits).mse,
            **{f"{name} + least squares, d = {most}": bench.score(circuit).mse for name, circuit in fitted.items()},
        }

    def measure(self, step: int) -> None:
        """Measure at ``step`` and show it."""
        import numpy as np

        from engine.toys.boolean import figures

        scores = {d: self.bench.score(self.trainer.circuit(d)) for d in self.trainer.neurons}
        for place, found in enumerate(scores.values()):
            self.curve[self.at.index(step), place] = found.mse
        most = max(scores)
        best = scores[most]
        self.run.log(
            step,
            mse=best.mse,
            explained=best.explained,
            separation=best.separation,
            error=best.error,
            error_at_half=best.error_at_half,
        )
        circuit, before = self.trainer.circuit(most), self.untrained.circuit(most)
        curve = figures.mse_figure(np.array(self.at), self.curve.numpy().copy(), tuple(scores), self.references)
        self.run.show("mse", curve)
        self.run.show("input-weights", figures.weights_frame(circuit, before), step=step)
        self.run.show("readout", figures.readout_frame(circuit, self.bench.world), step=step)


def _about(world: World) -> str:
    chosen = f"{world.active} active" if world.exact else f"{world.active} active on average"
    return f"{world.bits} bits, {chosen}, {world.pairs.shape[1]:,} pairs."


def _compare(p: UniversalAnd, bench: Bench, learned: dict[int, Circuit], untrained: Circuit, run: Run) -> None:
    """All circuits and controls against their size, in a table, and their weights."""
    from engine.toys.boolean import figures
    from engine.toys.boolean.measures import compare

    plan, world, about = _SIZES[p.size], bench.world, _about(bench.world)
    most = max(learned)
    counts = sorted({*(p.compared or plan.compared), most})
    scores = compare(bench, counts, p.sparse_density, plan.draws, run.point)
    fitted = {d: bench.fit(circuit) for d, circuit in learned.items()}
    scores["learned"] = {d: [bench.score(circuit)] for d, circuit in learned.items()}
    scores["learned + least squares"] = {d: [bench.score(circuit)] for d, circuit in fitted.items()}
    scores[figures.UNTRAINED] = {most: [bench.score(untrained)]}
    bits = bench.score(bench.bits)
    separation, error = figures.size_figures(scores, bits, p.active, plan.draws, about)
    run.show("separation", separation)
    run.show("error", error)
    run.show("explained", figures.explained_figure(scores, bits, world, about))
    rows = [("learned", learned[d]) for d in learned] + [("learned + least squares", fitted[d]) for d in fitted]
    for d in sorted({most, p._neurons}):
        circuits = bench.constructed(d, p.sparse_density)
        rows += [(name, circuits[name]) for name in ("dense sign", "sparse")]
        if bench.fits(d):
            rows += [(f"{name} + least squares", bench.fit(circuit)) for name, circuit in circuits.items()]
        rows += [(figures.SHUFFLED, bench.mixed(circuits["dense sign"]))]
    rows += [(figures.UNTRAINED, untrained), (figures.BITS, bench.bits)]
    run.show("circuits", figures.circuits_table([(n, c, bench.score(c)) for n, c in rows], world, about))
    circuits = bench.constructed(most, p.sparse_density)
    shown = {"learned": learned[most], "dense sign": circuits["dense sign"], "sparse": circuits["sparse"]}
    shown["Gaussian + least squares"] = bench.fit(circuits["Gaussian"])
    run.show("weights", figures.weights_figure(shown))
    run.show("neuron", figures.neuron_figure(shown, world))


def _take_apart(p: UniversalAnd, bench: Bench, learned: dict[int, Circuit], run: Run) -> None:
    """The chosen circuit over layers, with other inputs, by class of neuron, and as a model."""
    from engine.toys.boolean import figures
    from engine.toys.boolean.circuits import SPREAD, across_layers, localised
    from engine.toys.boolean.measures import by_layer, dictionaries, robustness, truth_table
    from engine.toys.training import generator

    plan, world, about = _SIZES[p.size], bench.world, _about(bench.world)
    constructed = bench.constructed(p._neurons, p.sparse_density)
    circuit = learned[p._neurons] if p.circuit == "learned" else constructed[p.circuit]
    name = f"{p.circuit}, d = {p._neurons}"
    spread = across_layers(circuit, p.layers, generator(p.seed, SPREAD))
    signal, separation = figures.layers_figures(
        by_layer(bench, spread), by_layer(bench, localised(circuit, p.layers)), name, about
    )
    run.show("signal-by-layer", signal)
    run.show("separation-by-layer", separation)
    run.show("truth-table", figures.classes_table(truth_table(bench, circuit), name, about))
    if world.exact:
        active = list(range(2, min(max(6, world.active), world.bits - 1) + 1))
        most = max(learned)
        compared = {f"{n}, d = {p._neurons}": constructed[n] for n in ("dense sign", "sparse")}
        compared |= {f"learned, d = {most}": learned[most], figures.BITS: bench.bits}
        for number, figure in enumerate(
            figures.robustness_figures(*robustness(bench, compared, active, plan.samples), active, world.active)
        ):
            run.show(("robustness", "robustness-error")[number], figure)
    chosen = sorted({max(p.layers * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4)})
    k = max(round(world.rate * world.pairs.shape[1]), 1)
    found = dictionaries(bench, spread, chosen, plan.dictionary_steps, k, run.point)
    note = (
        f"{about} A TopK dictionary (k = {k}, one atom a pair, {plan.dictionary_steps} steps) on the outputs after a layer: "
        f"for each AND the largest cosine between an atom and its output direction, mean over {world.pairs.shape[1]:,} "
        "pairs. Controls: a dictionary on Gaussian noise of the same mean and covariance, and random directions."
    )
    run.show("dictionaries", figures.dictionary_figure(found, chosen, note))
    _keep(p, bench, circuit, spread.layer, run)


def _keep(p: UniversalAnd, bench: Bench, circuit: Circuit, layer: object, run: Run) -> None:
    """The chosen circuit over its layers as a network, with the ANDs of its samples as planted features."""
    import numpy as np
    import torch

    from engine.models.network import Network, Stage
    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy

    assert isinstance(layer, torch.Tensor)
    world = bench.world
    stages: list[Stage] = []
    weights: dict[str, np.ndarray[Any, Any]] = {}
    for number in range(p.layers):
        mine = layer == number
        weights |= {
            f"inward.{number}": circuit.inward[:, mine].numpy(),
            f"bias.{number}": circuit.bias[mine].numpy(),
            f"outward.{number}": circuit.outward[mine].numpy(),
        }
        stages.append(
            Stage(
                name=f"hidden{number}",
                of="inputs",
                weight=f"inward.{number}",
                bias=f"bias.{number}",
                activation="relu",
                layer=number,
            )
        )
        after = f"out{number - 1}" if number else ""
        bias = "" if number else "offset"
        stages.append(Stage(name=f"out{number}", weight=f"outward.{number}", bias=bias, plus=after, layer=number))
    weights["offset"] = circuit.offset.numpy()
    pairs = world.pairs.shape[1]
    samples = max(min(KEPT_VALUES // pairs, len(bench.inputs)), 32)
    inputs = bench.inputs[:samples].numpy()
    network = Network(stages, weights, inputs, [f"x{bit}" for bit in range(world.bits)])
    names = tuple(f"x{i}&x{j}" for i, j in world.pairs.T.tolist())
    data = ToyData(
        np.arange(samples, dtype=np.int32).reshape(1, -1),
        features=bench.answers[:samples].numpy().astype(np.uint8)[None],
        names=names,
    )
    keep_toy(
        run,
        network,
        data,
        title=f"Universal AND, {world.bits} bits, {p.circuit}, d = {p._neurons}",
        planted={f"blocks.{p.layers - 1}.hook_out{p.layers - 1}": (names, np.eye(pairs, dtype=np.float32))},
    )
    run.keep("layer_of_neuron", layer.numpy().astype(np.int16), what="MLP of each neuron, from 0")
