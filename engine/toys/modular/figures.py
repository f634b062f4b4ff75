"""The figures of modular addition: curves, spectra, circles, neurons, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Heatmap, Images, Lines, Table
from engine.toys import fourier

if TYPE_CHECKING:
    from engine.toys.modular.analysis import Mechanism
    from engine.toys.modular.repair import Ablation
    from engine.toys.modular.robustness import Robustness

Array: TypeAlias = npt.NDArray[Any]
STEP = Axis("Step", "", "log")
ACCURACY = Axis("Accuracy", "share of pairs")
NATS = Axis("Loss", "nats", "log")
SHARE = Axis("Share of power")
CIRCLES = 4  # key frequencies drawn as circles
PICTURES = 3  # neurons drawn


def curves(title: str, note: str, y_axis: Axis, steps: Array, rows: Mapping[str, Array], **reference: float) -> Lines:
    """Curves over steps on a log axis, which cannot show step 0, the untrained network."""
    later = np.asarray(steps) > 0
    return Lines(
        title=title,
        note=note,
        x_axis=STEP,
        y_axis=y_axis,
        series=tuple(rows),
        x=np.asarray(steps)[later],
        y=np.stack([np.asarray(row)[later] for row in rows.values()]),
        reference={name.replace("_", " "): value for name, value in reference.items()},
    )


def accuracy(steps: Array, of: Mapping[str, Array], p: int, sizes: tuple[int, int, int]) -> Lines:
    """Accuracy of training and test pairs; ``sizes`` are the numbers of training, wrongly labelled and test pairs."""
    train, wrong, test = sizes
    rows = {"train": of["train_accuracy"], "test": of["test_accuracy"]}
    note = f"{train:,} pairs trained on, {test:,} tested."
    if wrong:
        rows |= {"right training labels": of["clean_accuracy"], "wrong labels, true sum": of["corrupted_accuracy"]}
        note += (
            f" {wrong:,} training labels are wrong: “train” counts the labels as trained, the other curves true sums."
        )
    return curves("Accuracy", f"{note} Control: chance, 1/p.", ACCURACY, steps, rows, chance=1 / p, **{"99 %": 0.99})


def losses(steps: Array, of: Mapping[str, Array], p: int) -> Lines:
    """Loss on training and test pairs."""
    rows = {"train": of["train_loss"], "test": of["test_loss"]}
    note = "Mean cross-entropy at “=”, in float64, of all pairs of each part. Control: log p, all answers alike."
    return curves("Loss", note, NATS, steps, rows, **{"log p": float(np.log(p))})


def spectrum(embedding: Array, unembedding: Array, shuffled: Array) -> Lines:
    """Share of power by frequency; ``shuffled`` (draws, frequencies) is the control."""
    k = np.arange(1, len(embedding) + 1)
    flat = np.full(len(k), np.nan)
    control = shuffled.mean(0)
    low, high = shuffled.min(0), shuffled.max(0)
    return Lines(
        title="Fourier spectrum of the weights",
        note=f"Power of the centred rows over the numbers, as shares. Control: the embedding with its numbers shuffled, "
        f"mean and range of {len(shuffled)} orders.",
        x_axis=Axis("Frequency k", "periods per p"),
        y_axis=SHARE,
        series=("embedding", "unembedding", "numbers shuffled"),
        x=k,
        y=np.stack([embedding, unembedding, control]).astype(np.float32),
        low=np.stack([flat, flat, low]).astype(np.float32),
        high=np.stack([flat, flat, high]).astype(np.float32),
    )


def spectrum_over_steps(steps: Sequence[int], shares: Array) -> Heatmap:
    """Spectrum of the embedding, ``shares`` (checkpoints, frequencies), one column per checkpoint."""
    return Heatmap(
        title="Spectrum of the embedding over training",
        note="Each column is a checkpoint, log-spaced; the first is the untrained network, the control.",
        x_axis=Axis("Step"),
        y_axis=Axis("Frequency k", "periods per p"),
        value_axis=SHARE,
        values=np.asarray(shares, dtype=np.float32).T,
        x=np.asarray(steps),
        y=np.arange(1, shares.shape[1] + 1),
        origin="lower",
    )


def progress(steps: Array, rows: Mapping[str, Array], p: int, keys: Sequence[int]) -> Lines:
    """Progress measures over the checkpoints."""
    return curves(
        "Progress measures",
        f"Key frequencies of the last checkpoint: {_listed(keys)}. Restricted: test loss if only they are kept. Excluded: "
        "training loss if they are taken out. Control: log p, all answers alike.",
        NATS,
        steps,
        rows,
        **{"log p": float(np.log(p))},
    )


def circles(embedding: Array, planes: Sequence[tuple[int, Array]]) -> Lines:
    """The numbers in the planes (k, directions) of key frequencies, joined in the order of the circle.

    Directions are (2, d), or (1, d) where k is half of an even p: that frequency has no sine, and 0 takes its place.
    """
    centred = embedding - embedding.mean(0)
    drawn = []
    for k, directions in planes:
        points = (centred @ directions.T)[fourier.around(len(centred), k)]
        drawn.append((k, np.pad(points, ((0, 0), (0, 2 - points.shape[1])))))
    return Lines(
        title="The numbers on their circles",
        note="Each number's embedding in the plane of a key frequency, which the last checkpoint defines; joined in the "
        "order k·a mod p. The first frame, the untrained network, is the control.",
        x_axis=Axis("Cosine direction", "embedding units"),
        y_axis=Axis("Sine direction", "embedding units"),
        series=tuple(f"k = {k}" for k, _ in drawn),
        x=np.stack([points[:, 0] for _, points in drawn]).astype(np.float32),
        y=np.stack([points[:, 1] for _, points in drawn]).astype(np.float32),
        equal=True,
    )


def sums_and_differences(matrix: Array, levels: tuple[float, float]) -> Heatmap:
    """The correct logit by sum and difference, ``matrix`` (p, p)."""
    low, high = levels if levels[0] < levels[1] else (levels[0], levels[0] + 1)
    return Heatmap(
        title="Correct logit by sum and difference",
        note="A clock depends on the sum alone: every row has one colour. A pizza has stripes along the difference. "
        "The first frame, the untrained network, is the control.",
        x_axis=Axis("a − b mod p"),
        y_axis=Axis("a + b mod p"),
        value_axis=Axis("Correct logit"),
        values=matrix.astype(np.float32),
        x=np.arange(matrix.shape[1]),
        y=np.arange(matrix.shape[0]),
        levels=(float(low), float(high)),
    )


def neurons(hidden: Array, chosen: Sequence[tuple[int, int]], largest: Array) -> Images:
    """Activations (p², neurons) of the ``chosen`` (neuron, k) as pictures over a and b, in percent of ``largest``."""
    p = round(len(hidden) ** 0.5)
    percent = 100 * hidden / np.where(largest > 0, largest, np.inf)
    whole = np.clip(np.rint(percent), 0, 255).astype(np.uint8)
    return Images(
        title="Neurons over all pairs",
        note="Activation at “=” of the neuron that is purest in each key frequency of the last checkpoint: stripes with k "
        "periods. The first frame, the untrained network, is the control.",
        x_axis=Axis("b"),
        y_axis=Axis("a"),
        value_axis=Axis("Activation", "% of its largest in the last checkpoint"),
        captions=tuple(f"neuron {neuron}, k = {k}" for neuron, k in chosen),
        pixels=np.stack([whole[:, neuron].reshape(p, p) for neuron, _ in chosen]),
    )


def weight_norms(steps: Array, rows: Mapping[str, Array]) -> Lines:
    """Sums of squares of the weights over the checkpoints."""
    return curves(
        "Weight norm",
        "Sum of squares of each group of weights. It rises while pairs are memorised and falls in the clean-up.",
        Axis("Sum of squares", "", "log"),
        steps,
        rows,
    )


def phases(rows: Sequence[tuple[str, int, str, float, float, float, float, float]], keys: Sequence[int]) -> Table:
    """The three phases: name, first step, last step, and what holds at its end."""
    names = ("Phase", "From step", "To step", "Train accuracy", "Test accuracy", "Restricted loss", "Excluded loss",
             "Weight norm")  # fmt: skip
    return Table(
        title="Three phases",
        note="Memorise: until training accuracy exceeds 99 %. Form the circuit: until the key frequencies "
        f"({_listed(keys)}) alone answer test pairs with a tenth of the loss log p. Clean up: until test accuracy exceeds "
        "99 % in two checks in a row. Numbers are those at the end of each phase; n = 1 run.",
        axes=tuple(Axis(name) for name in names),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def frequency_table(found: Mapping[str, Mechanism], keys: Sequence[int]) -> Table:
    """Every frequency's shares in each checkpoint, most important first."""
    last = list(found.values())[-1]
    order = np.argsort(-last.logit_shares, kind="stable")
    k = order + 1
    columns: list[tuple[str, Array]] = [
        ("Frequency k", k),
        ("Key", np.array(["yes" if one in keys else "" for one in k])),
    ]
    for name, one in found.items():
        columns += [(f"Logit share, {name}", one.logit_shares[order])]
    for name, one in found.items():
        columns += [(f"Embedding share, {name}", one.embedding_shares[order])]
    pure = np.nan_to_num(last.neuron_share) > 0.85
    columns += [("Neurons", np.array([int((last.neuron_frequency[pure] == one).sum()) for one in k]))]
    live = int(np.isfinite(last.neuron_share).sum())
    return Table(
        title="Frequencies",
        note="Logit share: variance of the centred logits along cos w(a + b − c). Key: more than 2 % of it in the last "
        f"checkpoint. Neurons: of {live} live ones, those with more than 85 % of their variance in this frequency. "
        "Controls: the untrained network, and the one that has memorised.",
        axes=tuple(Axis(name) for name, _ in columns),
        columns=tuple(column for _, column in columns),
    )


MEASURES = (
    "Gradient symmetricity",
    "… standard deviation",
    "Distance irrelevance",
    "Logit variance in key frequencies",
    "… that a clock explains",
    "… that a pizza explains",
    "… that both explain",
    "Median neuron's share in one frequency",
    "Neurons of one frequency",
    "Gini of the embedding's spectrum",
    "Test loss",
    "Restricted test loss",
    "Excluded training loss",
    "Weight norm",
)


def algorithm_table(found: Mapping[str, Mechanism], keys: Sequence[int], triples: int) -> Table:
    """Clock or pizza, and the progress measures, by checkpoint."""
    columns = [_measures(one) for one in found.values()]
    blank = [np.nan] * (len(MEASURES) - 3)
    names = ("Measure", *found, "Clock, published", "Pizza, published")
    return Table(
        title="Clock or pizza",
        note=f"Symmetricity: mean cosine of ∂Q_c/∂E_a and ∂Q_c/∂E_b over n = {triples} random (a, b, c), E the embeddings. "
        "Distance irrelevance: deviation of the correct logit along the sum over its whole deviation. Losses in nats. "
        f"Key frequencies: {_listed(keys)}. Controls: the untrained network, whose attention is still uniform and so "
        "symmetric, and the one that has memorised. Published: Zhong et al. 2023, p = 59.",
        axes=tuple(Axis(name) for name in names),
        columns=(
            np.array(MEASURES),
            *(np.array(column) for column in columns),
            np.array([0.33, np.nan, 0.85, *blank]),
            np.array([0.99, np.nan, 0.17, *blank]),
        ),
    )


def _measures(one: Mechanism) -> list[float]:
    live = one.neuron_share[np.isfinite(one.neuron_share)]
    return [
        float(one.symmetricity.mean()),
        float(one.symmetricity.std(ddof=1)),
        one.distance_irrelevance,
        one.key_share,
        *(one.explained[name] for name in ("clock", "pizza", "both")),
        float(np.median(live)) if len(live) else np.nan,
        float((live > 0.85).mean()) if len(live) else np.nan,
        fourier.gini(one.embedding_shares),
        one.progress.test,
        one.progress.restricted,
        one.progress.excluded,
        one.weight_norm,
    ]


def ablation_table(found: Mapping[str, Mapping[str, Ablation]]) -> Table:
    """What each part contributes and what others do without it, by checkpoint and part."""
    first = next(iter(found.values()))
    columns: list[tuple[str, Array]] = [
        ("Set to zero", np.array(list(first))),
        ("Heads or neurons", np.array([one.size for one in first.values()])),
    ]
    for name, parts in found.items():
        ones = list(parts.values())
        columns += [
            (f"Direct contribution, {name}", np.array([one.direct for one in ones])),
            (f"Drop without it, {name}", np.array([one.drop for one in ones])),
            (f"Compensation, {name}", np.round([one.compensation for one in ones], 5)),
            (f"Test accuracy without it, {name}", np.array([one.test_accuracy for one in ones])),
        ]
    return Table(
        title="Parts set to zero",
        note="Right logit less the mean logit, means over all pairs. Compensation: direct contribution minus drop, the sum of "
        "the other parts' changes; above 0 they repair, below 0 they relied on it. Neurons come last, so nothing can repair "
        "them: 0. Groups are those of the last checkpoint. Controls: random neurons, as many as the largest group, and the "
        "network that has memorised.",
        axes=tuple(Axis(name) for name, _ in columns),
        columns=tuple(column for _, column in columns),
    )


def robustness(radii: Sequence[float], found: Mapping[str, Robustness], n: int) -> Lines:
    """Accuracy after the attack and after random moves, by checkpoint and part."""
    series, rows = [], []
    for name, one in found.items():
        series += [f"{name}, attacked", f"{name}, random"]
        rows += [one.adversarial, one.random]
    return Lines(
        title="Robustness before and after grokking",
        note=f"Checkpoints of this one run, n ≤ {n:,} pairs each. The embeddings of a and b are moved together by at most "
        "the radius: attacked, 10 steps of projected ascent of the loss; random, the control, the same length in a random "
        "direction.",
        x_axis=Axis("Radius", "mean embedding norms"),
        y_axis=ACCURACY,
        series=tuple(series),
        x=np.asarray(radii),
        y=np.stack(rows),
    )


def margin_table(found: Mapping[str, Robustness], radii: Sequence[float]) -> Table:
    """First-order margins and accuracies of the same."""
    rows = [
        (name, len(one.margin), one.margin.mean(), _deviation(one.margin), *one.adversarial, *one.random)
        for name, one in found.items()
    ]
    names = ["Checkpoint and pairs", "n", "Margin", "Standard deviation"]
    names += [f"Attacked, radius {radius:g}" for radius in radii] + [f"Random, radius {radius:g}" for radius in radii]
    return Table(
        title="Margins and accuracy after moves",
        note="Margin: lead of the right logit over the best other, over the norm of the lead's gradient in the two "
        "embeddings, in mean embedding norms; below 0 where the answer is wrong. Control: random moves of the same length.",
        axes=tuple(Axis(name) for name in names),
        columns=tuple(np.asarray(column) for column in zip(*rows, strict=True)),
    )


def _deviation(values: Array) -> float:
    """Standard deviation; NaN for one value."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _listed(keys: Sequence[int]) -> str:
    return ", ".join(map(str, keys))
