"""What `universal-and` shows: circuits against their size, their weights, and what they do layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from engine.figures.kinds import Axis, Histogram, Images, Lines, Table
from engine.toys.boolean.circuits import Circuit, Score, World, density, kurtosis, sign_theory

Array: TypeAlias = npt.NDArray[Any]
NEURONS = Axis("Hidden neurons d", "", "log")
SEPARATION = Axis("Separation d'", "sd", "log")
ERROR = Axis("Balanced error at the best threshold", "", "log")
SHOWN = 4  # neurons whose readout the movie shows
EDGES = 61  # of the histograms of weights
# Order in which curves are drawn: their colours stay the same from figure to figure.
NAMES = (
    "dense sign",
    "sparse",
    "learned",
    "dense sign + least squares",
    "sparse + least squares",
    "learned + least squares",
    "Gaussian + least squares",
)
BITS = "bits alone, no ReLU"
SHUFFLED = "dense sign, pairs shuffled"
UNTRAINED = "untrained"


def size_figures(
    scores: Mapping[str, Mapping[int, Sequence[Score]]], bits: Score, active: int, seeds: int, about: str
) -> tuple[Lines, Lines]:
    """d' and error of all circuits and controls against their number of neurons, with the dense circuit's theory."""
    series = [name for name in (*NAMES, SHUFFLED, UNTRAINED) if name in scores]
    counts = sorted({d for found in scores.values() for d in found})
    floor = 0.5 / bits.positives
    theory = [[sign_theory(active, d)[2]] for d in counts]
    curves = {"theory of dense sign": (counts, theory)}
    curves |= {
        name: (sorted(scores[name]), [[abs(s.separation) for s in scores[name][d]] for d in sorted(scores[name])])
        for name in series
    }
    errors = {
        name: (sorted(scores[name]), [[max(s.error, floor) for s in scores[name][d]] for d in sorted(scores[name])])
        for name in series
    }
    note = (
        f"{about} Constructed circuits: mean over {seeds} draws of their weights, band from lowest to highest; learned: "
        "one network a size. "
    )
    separation = Lines(
        title="Separation against the number of neurons",
        note=f"{note}d' = (mean at positives - mean at negatives) / root mean square of their spreads. Theory of the dense "
        f"sign circuit: sd of the outputs at negatives {_coefficient(active)}. Controls: the bits themselves with a linear "
        "readout, a Gaussian hidden layer, readouts dealt out to the wrong pairs, the network before training; of these |d'|.",
        x_axis=NEURONS,
        y_axis=SEPARATION,
        series=tuple(curves),
        **_banded(curves),
        reference={BITS: bits.separation},
    )
    error = Lines(
        title="Balanced error against the number of neurons",
        note=f"{note}Mean of the shares of positives missed and of negatives taken for positives, at the best threshold for "
        f"each; where none of {bits.positives:,} positives is wrong, it is drawn at half an error in them. An AND is linearly "
        "separable, so with a threshold of its own the bits alone do it without a ReLU.",
        x_axis=NEURONS,
        y_axis=ERROR,
        series=tuple(errors),
        **_banded(errors),
        reference={BITS: max(bits.error, floor), "chance": 0.5},
    )
    return separation, error


def explained_figure(
    scores: Mapping[str, Mapping[int, Sequence[Score]]], bits: Score, world: World, about: str
) -> Lines:
    """Variance explained against the number of neurons, of what is fitted to the answers."""
    pairs = world.pairs.shape[1]
    names = [name for name in NAMES if name in scores and (name == "learned" or "least squares" in name)]
    curves = {
        name: (sorted(scores[name]), [[one.explained for one in scores[name][d]] for d in sorted(scores[name])])
        for name in names
    }
    counts = sorted({d for places, _ in curves.values() for d in places})
    bound = {"d / pairs": (counts, [[min(d / pairs, 1.0)] for d in counts])}
    return Lines(
        title="Variance explained against the number of neurons",
        note=f"{about} 1 - MSE / MSE of always the mean, on test inputs; band from lowest to highest draw of the weights. d / "
        "pairs is what the best linear map through d neurons could explain were all pairs' variances equal and independent. "
        "Controls: a Gaussian hidden layer, and the bits with no ReLU. Constructed readouts are not fitted to this and are "
        "below 0.",
        x_axis=NEURONS,
        y_axis=Axis("Variance explained", "share"),
        series=(*curves, *bound),
        **_banded({**curves, **bound}),
        reference={BITS: bits.explained},
    )


def _banded(curves: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]]) -> dict[str, Any]:
    """Curves of unequal length, each (places, repeats at each place), as `Lines` takes them: mean and extremes."""
    length = max(len(places) for places, _ in curves.values())
    found = {name: np.full((len(curves), length), np.nan) for name in ("x", "y", "low", "high")}
    for row, (places, repeats) in enumerate(curves.values()):
        used = slice(len(places))
        found["x"][row, used] = places
        found["y"][row, used] = [np.mean(each) for each in repeats]
        found["low"][row, used] = [np.min(each) for each in repeats]
        found["high"][row, used] = [np.max(each) for each in repeats]
    return found


def _coefficient(active: int) -> str:
    return f"sqrt({sign_theory(active, 1)[1] ** 2:.3g} / d)"


def circuits_table(rows: Sequence[tuple[str, Circuit, Score]], world: World, about: str) -> Table:
    """Every number of each circuit, with its name and its size."""
    pairs = world.pairs.shape[1]
    columns: list[tuple[Axis, list[Any]]] = [
        (Axis("Circuit"), [name for name, _, _ in rows]),
        (Axis("Neurons"), [circuit.neurons for _, circuit, _ in rows]),
        (Axis("Mean at positives"), [score.means[0] for *_, score in rows]),
        (Axis("Sd at positives"), [score.spreads[0] for *_, score in rows]),
        (Axis("Mean at negatives"), [score.means[1] for *_, score in rows]),
        (Axis("Sd at negatives"), [score.spreads[1] for *_, score in rows]),
        (Axis("d'"), [score.separation for *_, score in rows]),
        (Axis("Error at best threshold"), [score.error for *_, score in rows]),
        (Axis("Best threshold"), [score.threshold for *_, score in rows]),
        (Axis("Error at .5 (a trap)"), [score.error_at_half for *_, score in rows]),
        (Axis("Pairs missed"), [score.missed for *_, score in rows]),
        (Axis("MSE"), [score.mse for *_, score in rows]),
        (Axis("Variance explained"), [score.explained for *_, score in rows]),
        (Axis("d / pairs"), [min(circuit.neurons / pairs, 1.0) for _, circuit, _ in rows]),
        (Axis("Readout density"), [density(circuit) for _, circuit, _ in rows]),
        (Axis("Kurtosis of weights"), [kurtosis(circuit) for _, circuit, _ in rows]),
    ]
    first = rows[0][2]
    return Table(
        title="Circuits and controls",
        note=f"{about} n = {first.positives:,} positives and {first.negatives:,} negatives. “Never” has MSE {world.rate:.5f} "
        f"and is right {1 - world.rate:.2%} of the time, so errors are balanced. Outputs that MSE has shrunk lie far below .5: "
        "the error there reads as chance although the two groups are apart. A linear map through d neurons explains about d "
        "/ pairs of the variance of equally strong pairs. Missed: mean output at a pair's positives below the best threshold. "
        "Density: share of readout weights above a tenth of the largest. Kurtosis: 1 for two values, 3 for a Gaussian.",
        axes=tuple(axis for axis, _ in columns),
        columns=tuple(np.asarray(column) for _, column in columns),
    )


def mse_figure(steps: Array, curve: Array, neurons: Sequence[int], references: Mapping[str, float]) -> Lines:
    """The test error while networks train; ``curve`` (measurements, sizes) is NaN where it is still to come."""
    return Lines(
        title="Mean squared error while training",
        note="On fixed test inputs; step 0 is the untrained network and is left out. Always 0 and always the mean look at "
        "nothing; the others have a hidden layer that nobody trained, of the largest size, or none, and a readout fitted by "
        "least squares: what is below them is what training the hidden layer brings.",
        x_axis=Axis("Step", "", "log"),
        y_axis=Axis("Mean squared error", "", "log"),
        series=tuple(f"learned, d = {d}" for d in neurons),
        x=steps[1:].astype(float),
        y=curve.T[:, 1:],
        reference=dict(references),
    )


def weights_frame(now: Circuit, start: Circuit) -> Histogram:
    """Input weights of the learned circuit now and before training."""
    edges = np.linspace(-3, 3, EDGES)
    return Histogram(
        title="Input weights of the learned circuit",
        note=f"All weights from bits to the {now.neurons} neurons; those beyond ±3 are counted in the outermost bins. Control: "
        "before training.",
        x_axis=Axis("Weight"),
        y_axis=Axis("Weights", "", "log"),
        groups=("learned", "before training"),
        edges=edges,
        counts=np.stack([_counts(circuit, edges) for circuit in (now, start)]),
    )


def weights_figure(circuits: Mapping[str, Circuit]) -> Histogram:
    """Input weights of several circuits, each in units of its largest."""
    edges = np.linspace(-1, 1, EDGES)
    shares = []
    for circuit in circuits.values():
        values = circuit.inward.numpy().ravel()
        counts = np.histogram(values / max(np.abs(values).max(), 1e-30), edges)[0]
        shares.append(counts / counts.sum())
    return Histogram(
        title="Input weights of the circuits",
        note="Weights from bits to neurons in units of the largest. The dense sign circuit has two values, ±1; the sparse one 0 "
        "and 1. Control: a Gaussian hidden layer.",
        x_axis=Axis("Weight / largest"),
        y_axis=Axis("Share of weights", "", "log"),
        groups=tuple(f"{name}, d = {circuit.neurons}" for name, circuit in circuits.items()),
        edges=edges,
        counts=np.stack(shares),
    )


def _counts(circuit: Circuit, edges: Array) -> Array:
    return np.histogram(np.clip(circuit.inward.numpy().ravel(), edges[0], edges[-1]), edges)[0].astype(np.int32)


def square(world: World, values: Tensor) -> Array:
    """Values (..., pairs) as symmetric matrices (..., bits, bits), zero on the diagonal, float32."""
    found = np.zeros((*values.shape[:-1], world.bits, world.bits), np.float32)
    i, j = world.pairs.numpy()
    found[..., i, j] = found[..., j, i] = values.numpy()
    return found


def readout_frame(circuit: Circuit, world: World) -> Images:
    """What the first neurons of the learned circuit write to each pair."""
    count = min(SHOWN, circuit.neurons)
    return Images(
        title="Readout of four neurons of the learned circuit",
        note="Weight from the neuron to the output of the pair (row bit, column bit). In a dense circuit this is an outer "
        "product of signs, in a sparse one a small block of ones.",
        x_axis=Axis("Bit"),
        y_axis=Axis("Bit"),
        value_axis=Axis("Readout weight"),
        captions=tuple(f"neuron {number}" for number in range(count)),
        pixels=square(world, circuit.outward[:count]),
    )


def neuron_figure(circuits: Mapping[str, Circuit], world: World) -> Images:
    """One neuron of each circuit, the one that writes most: its readout to all pairs, bits sorted by input weight."""
    pictures = []
    for circuit in circuits.values():
        number = int(circuit.outward.square().sum(dim=1).argmax())
        order = circuit.inward[:, number].argsort(stable=True).numpy()
        picture = square(world, circuit.outward[number])[np.ix_(order, order)]
        pictures.append(picture / max(np.abs(picture).max(), 1e-30))
    return Images(
        title="One neuron's readout in each circuit",
        note="The neuron with the largest readout; weight to the pair (row bit, column bit) in units of the largest. Bits are "
        "sorted by that neuron's input weight, so that an outer product of signs shows as four blocks, a sparse neuron as one. "
        "Control: Gaussian hidden layer.",
        x_axis=Axis("Bit, sorted by input weight"),
        y_axis=Axis("Bit, sorted by input weight"),
        value_axis=Axis("Readout weight / largest"),
        captions=tuple(circuits),
        pixels=np.stack(pictures),
    )


def layers_figures(spread: Sequence[Score], local: Sequence[Score], name: str, about: str) -> tuple[Lines, Lines]:
    """Signal, noise and d' in the output block after each MLP, for spread and localised neurons."""
    layers = len(spread)
    layer = np.arange(1, layers + 1, dtype=float)
    last, share = spread[-1], layer / layers
    note = (
        f"{about} Neurons of the {name} circuit dealt out to {layers} MLPs that read the bits and add to the outputs. Control: "
        "the same neurons all in one MLP, a step. "
    )
    rows = {
        "mean at positives": [one.means[0] for one in spread],
        "theory l / L": last.means[0] * share,
        "mean, localised": [one.means[0] for one in local],
        "sd at negatives": [one.spreads[1] for one in spread],
        "theory sqrt(l / L)": last.spreads[1] * np.sqrt(share),
        "sd, localised": [one.spreads[1] for one in local],
    }
    signal = Lines(
        title="Signal by layer",
        note=f"{note}Theory is scaled to the last layer. n = {last.positives:,} positives, {last.negatives:,} negatives a layer.",
        x_axis=Axis("After layer"),
        y_axis=Axis("Output"),
        series=tuple(rows),
        x=layer,
        y=np.stack([np.asarray(row, float) for row in rows.values()]),
    )
    finite = {
        "spread over layers": [one.separation for one in spread],
        "theory sqrt(l / L)": last.separation * np.sqrt(share),
        "localised": [one.separation for one in local],
    }
    separation = Lines(
        title="Separation by layer",
        note=f"{note}d' = difference of the means / root mean square of the spreads; 0 where nothing is written yet.",
        x_axis=Axis("After layer"),
        y_axis=Axis("Separation d'", "sd"),
        series=tuple(finite),
        x=layer,
        y=np.stack([np.asarray(row, float) for row in finite.values()]),
    )
    return signal, separation


def robustness_figures(
    scores: Mapping[str, Sequence[Score]], fixed: Mapping[str, Sequence[float]], active: Sequence[int], trained: int
) -> tuple[Lines, Lines]:
    """Separation and error with other numbers of active bits, weights fixed."""
    note = (
        f"Weights and, for the error, the threshold are those for {trained} active bits. n = {scores[BITS][0].positives:,} "
        f"positives at {active[0]} active bits. Control: {BITS}, readout by least squares."
    )
    names = tuple(scores)
    separation = Lines(
        title="Separation with more or fewer active bits",
        note=note,
        x_axis=Axis("Active bits"),
        y_axis=Axis("Separation d'", "sd"),
        series=names,
        x=np.array(active, float),
        y=np.array([[_finite(one.separation) for one in scores[name]] for name in names]),
    )
    error = Lines(
        title="Error with more or fewer active bits",
        note=note,
        x_axis=Axis("Active bits"),
        y_axis=Axis("Balanced error"),
        series=names,
        x=np.array(active, float),
        y=np.array([fixed[name] for name in names]),
        reference={"chance": 0.5},
    )
    return separation, error


def _finite(value: float) -> float:
    return value if np.isfinite(value) else np.nan


def classes_table(rows: Sequence[tuple[Any, ...]], name: str, about: str) -> Table:
    """The truth table of each class of neurons; see `engine.toys.boolean.measures.truth_table`."""
    cells = ("Neither on", "First on", "Second on", "Both on", "Sd over pairs, both on")
    labels = ("Neurons by their two weights", "Share of neurons", *cells)
    return Table(
        title=f"Truth table by class of neuron: {name}",
        note=f"{about} For a pair of bits, neurons fall into four classes by whether their weight from the first and the second "
        "bit is high (above the middle of the neuron's weights) or low. Mean output that each class adds, averaged over pairs; "
        "the last row is their sum. The dense circuit reads A - B1 - B2 + C: no class computes the AND, only their sum does.",
        axes=tuple(Axis(label) for label in labels),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def dictionary_figure(rows: Mapping[str, Array], layers: Sequence[int], note: str) -> Lines:
    """How near the latents of small dictionaries come to the outputs' directions, layer by layer (from 0)."""
    return Lines(
        title="Do dictionaries find the ANDs, layer by layer?",
        note=note,
        x_axis=Axis("After layer"),
        y_axis=Axis("Mean largest cosine"),
        series=tuple(rows),
        x=np.array(layers, float) + 1,
        y=np.stack(list(rows.values())),
    )
