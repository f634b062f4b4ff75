"""Figures as experiments show them, one or more a kind, for the tests of export and views and for looking at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.figures.kinds import (
    Axis,
    Bars,
    Figure,
    Graph,
    Heatmap,
    Histogram,
    Images,
    Lines,
    Scatter,
    Table,
    TokenStrip,
)

PROMPT = ["<|bos|>", "The", " capital", " of", " France", " is", " the", " city", " of", " Paris", ",", " on", " the",
          " river", " Seine", ".", "\n"]  # fmt: skip
GUESSES = ["\n", " first", " of", " the", " a", " Paris", " known", " is", " city", " Paris", " and", " the", " river",
           " bank", " called", " Seine", " It"]  # fmt: skip


def _noise(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def loss() -> Lines:
    rng = _noise(1)
    steps = np.arange(4000.0)
    y = 0.28 + 3.2 / (1 + steps / 60) ** 0.8 + rng.normal(0, 0.02, 4000) * (1 + 20 / (1 + steps / 40))
    return Lines(title="Loss of the tiny language model", note="Mean cross-entropy over the batch of 32 contexts. "
                 "The dashed line is the exact entropy of the grammar: no model can go below it.",
                 x_axis=Axis("Step"), y_axis=Axis("Cross-entropy", "nats/token"), series=("training",),
                 x=steps, y=y, reference={"entropy floor": 0.2797})  # fmt: skip


def family() -> Lines:
    rng = _noise(2)
    steps = np.arange(0, 2000, 10.0)
    curves = [0.02 * k + 0.9 * np.exp(-steps / (100 + 30 * k)) + rng.normal(0, 0.004, 200) for k in range(1, 8)]
    return Lines(title="FVU by the number of active latents", note="Share of variance unexplained, 4,096 held-out tokens.",
                 x_axis=Axis("Step"), y_axis=Axis("FVU"), series=tuple(f"k = {2**k}" for k in range(1, 8)),
                 x=steps, y=np.asarray(curves))  # fmt: skip


def spectrum() -> Lines:
    rng = _noise(3)
    rank = np.arange(1, 129.0)
    y = np.stack([0.3 * rank**-1.1, np.full(128, 1 / 128) * np.linspace(1.4, 0.6, 128)])
    spread = y * (0.08 + 0.05 * rng.random((2, 128)))
    return Lines(title="Explained variance per component", note="Band: 95 % over 5 seeds. Random: a Gaussian.",
                 x_axis=Axis("Component", "", "log"), y_axis=Axis("Share of variance", "", "log"),
                 series=("blocks.6.hook_resid_post", "random baseline"), x=rank, y=y,
                 low=y - spread, high=y + spread)  # fmt: skip


def scatter() -> Scatter:
    rng = _noise(4)
    n = 2000
    columns = rng.normal(size=(n, 4)) * np.asarray([6, 3, 1.5, 1])
    columns[:, 1] += 0.08 * columns[:, 0] ** 2
    words = ["the", " river", " bank", " of", " Paris", "\n", " 12", " whose"]
    label = [f"…{words[i % 8]} [{words[(i * 3) % 8]}]{words[(i * 5) % 8]}…" for i in range(n)]
    return Scatter(title="Activations on two components", note="2,000 tokens of python-docs, BOS left out.",
                   x_axis=Axis("Component 1"), y_axis=Axis("Component 2"), value_axis=Axis("Position", "tokens"),
                   points=columns[:, :2], value=(np.arange(n) % 128).astype(np.float64), label=np.asarray(label),
                   columns=columns, column_names=tuple(f"Component {i}" for i in range(1, 5)))  # fmt: skip


def cloud() -> Scatter:
    rng = _noise(5)
    t = np.linspace(0, 6 * np.pi, 600)
    helix = np.stack([np.cos(t), np.sin(t), t / 6], axis=1) + rng.normal(0, 0.05, (600, 3))
    return Scatter(title="Numbers 0–599 on the helix", x_axis=Axis("cos"), y_axis=Axis("sin"), z_axis=Axis("linear"),
                   value_axis=Axis("Number"), points=helix, value=np.arange(600.0),
                   label=np.asarray([str(i) for i in range(600)]))  # fmt: skip


def lens() -> Heatmap:
    rng = _noise(6)
    rows, columns = 13, len(PROMPT)
    values = np.clip(np.linspace(0.02, 0.9, rows)[:, None] * rng.uniform(0.3, 1.1, (rows, columns)), 0, 1)
    text = [[GUESSES[column] if values[row, column] > 0.3 else PROMPT[(row * 3 + column) % columns]
             for column in range(columns)] for row in range(rows)]  # fmt: skip
    return Heatmap(title="Logit lens: most likely next token", note="Probability of the top token after each layer.",
                   x_axis=Axis("Token"), y_axis=Axis("Layer"), value_axis=Axis("Probability"), values=values,
                   x=np.asarray(PROMPT), y=np.asarray(["embed", *map(str, range(12))]), text=np.asarray(text),
                   origin="lower")  # fmt: skip


def patching() -> Heatmap:
    rng = _noise(7)
    values = rng.normal(0, 0.05, (30, len(PROMPT)))
    values[10:20, 4] += 0.9
    values[20:, 9] -= 0.6
    values[3, 2] = np.nan
    values[5, 5] = np.inf
    return Heatmap(title="Activation patching of the residual stream", note="1: fully restored, 0: as corrupted.",
                   x_axis=Axis("Token"), y_axis=Axis("Layer"), value_axis=Axis("Logit difference restored", "share"),
                   values=values, x=np.asarray(PROMPT), y=np.arange(30), diverging=True, origin="lower")  # fmt: skip


def big_map() -> Heatmap:
    grid = np.linspace(-3, 3, 512)
    values = np.exp(-(grid[:, None] ** 2 + grid[None] ** 2)) + 0.2 * np.sin(3 * grid[:, None]) * np.cos(2 * grid[None])
    return Heatmap(title="Cosine similarity of decoder rows", x_axis=Axis("Latent"), y_axis=Axis("Latent"),
                   value_axis=Axis("Cosine similarity"), values=values.astype(np.float32), x=np.arange(512),
                   y=np.arange(512), diverging=True)  # fmt: skip


def densities() -> Histogram:
    rng = _noise(8)
    samples = np.stack([rng.normal(-3, 0.7, 9000), rng.normal(-4.2, 0.5, 9000)])
    samples[1, 6000:] = np.nan
    return Histogram(title="How often latents fire", note="log10 of the share of tokens on which a latent is above 0.",
                     x_axis=Axis("log10 density"), y_axis=Axis("Latents"), groups=("step 1,000", "step 20,000"),
                     samples=samples)  # fmt: skip


def counted() -> Histogram:
    rng = _noise(9)
    counts, edges = np.histogram(rng.gamma(2, 1.5, 20_000), bins=50)
    return Histogram(title="Norm of the residual stream", x_axis=Axis("Norm"), y_axis=Axis("Tokens", "", "log"),
                     groups=("all tokens",), edges=edges, counts=counts)  # fmt: skip


def violins() -> Histogram:
    rng = _noise(10)
    samples = np.stack([rng.normal(mean, 0.3 + 0.1 * mean, 800) for mean in range(5)])
    return Histogram(title="Logit difference by steering strength", x_axis=Axis("Logit difference", "nats"),
                     y_axis=Axis("Prompts"), groups=("-2", "-1", "0", "1", "2"), samples=samples, violins=True)  # fmt: skip


def heads() -> Bars:
    rng = _noise(11)
    value = rng.normal(0, 0.25, 24)
    value[17] = np.nan
    return Bars(title="Direct attribution by head", note="Bars: mean over 200 prompts; marks: 95 % interval.",
                x_axis=Axis("Head"), y_axis=Axis("Logit difference", "nats"),
                label=np.asarray([f"L{i // 4 + 6}.H{i % 4}" for i in range(24)]), value=value, low=value - 0.08,
                high=value + 0.08)  # fmt: skip


def top_logits() -> Bars:
    return Bars(title="Most likely next tokens", x_axis=Axis("Token"), y_axis=Axis("Probability"),
                label=np.asarray([" Paris", " the", " a", " located", " Lyon", "\n", " France", " one"]),
                value=np.asarray([0.75, 0.06, 0.04, 0.021, 0.014, 0.009, 0.005, 0.004]), horizontal=True)  # fmt: skip


def latents() -> Table:
    rng = _noise(12)
    n = 300
    return Table(title="Latents", note="Sorted by density.",
                 axes=(Axis("Latent"), Axis("Density", "share"), Axis("Largest activation"), Axis("Top token"),
                       Axis("Alive")),
                 columns=(np.arange(n) * 7, 10 ** rng.uniform(-6, -1, n), rng.gamma(3, 2, n).astype(np.float32),
                          np.asarray([GUESSES[i % len(GUESSES)] for i in range(n)]), rng.random(n) > 0.1))  # fmt: skip


def strip() -> TokenStrip:
    rng = _noise(13)
    tokens = (PROMPT * 6)[:96]
    value = rng.gamma(0.4, 2.0, 96) * np.where(rng.random(96) > 0.8, -0.5, 1)
    value[10] = np.nan
    return TokenStrip(title="Latent 1,204 on a document", note="Activation; blue is negative.",
                      value_axis=Axis("Activation"), tokens=np.asarray(tokens), value=value)  # fmt: skip


def circuit() -> Graph:
    nodes = ["embed: capital", "embed: France", "L5.H3", "L8.H1", "mlp 7", "mlp 10", "logit: Paris"]
    position = [[0, 0], [2, 0], [0.5, 1], [1.8, 1.5], [1, 2], [1.6, 2.6], [1.2, 3.4]]
    edges = [[0, 2], [1, 2], [1, 3], [2, 4], [3, 5], [4, 5], [5, 6], [4, 6], [3, 6]]
    weight = [0.4, 0.9, 0.7, 0.3, 1.2, -0.5, 1.6, 0.2, -0.1]
    return Graph(title="Attribution graph of “ Paris”", weight_axis=Axis("Direct effect", "nats"), nodes=np.asarray(nodes),
                 position=np.asarray(position, dtype=float), edges=np.asarray(edges), weight=np.asarray(weight))  # fmt: skip


def attention() -> Images:
    rng = _noise(14)
    size = len(PROMPT)
    scores = rng.normal(0, 2, (12, size, size)) + 4 * np.eye(size, k=-1)[None] * (np.arange(12) % 3 == 0)[:, None, None]
    scores[:, np.triu_indices(size, 1)[0], np.triu_indices(size, 1)[1]] = -np.inf
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    pixels = (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)
    return Images(title="Attention of layer 5", x_axis=Axis("Key"), y_axis=Axis("Query"), value_axis=Axis("Attention"),
                  captions=tuple(f"Head {i}" for i in range(12)), pixels=pixels, x=np.asarray(PROMPT),
                  y=np.asarray(PROMPT))  # fmt: skip


def filters() -> Images:
    rng = _noise(15)
    pixels = rng.normal(0, 1, (10, 14, 14))
    pixels[3, 2, 2] = np.nan
    return Images(title="Weights to each hidden unit", x_axis=Axis("Pixel"), y_axis=Axis("Pixel"),
                  value_axis=Axis("Weight"), captions=tuple(f"Unit {i}" for i in range(10)), pixels=pixels)  # fmt: skip


SAMPLES: dict[str, Callable[[], Figure]] = {
    function.__name__: function
    for function in (loss, family, spectrum, scatter, cloud, lens, patching, big_map, densities, counted, violins,
                     heads, top_logits, latents, strip, circuit, attention, filters)
}  # fmt: skip


def bare(kind: str, size: int) -> Figure:
    """A figure of ``kind`` with ``size`` items: 0 is empty, otherwise every number is NaN."""
    x, y, value = Axis("x"), Axis("y"), Axis("value", "u")
    lost = np.full(size, np.nan)
    square = np.full((size, size), np.nan)
    names = np.asarray([f"n{i}" for i in range(size)], dtype=np.str_)
    made: dict[str, Callable[[], Figure]] = {
        "lines": lambda: Lines(title="t", x_axis=x, y_axis=y, series=("s",), x=np.arange(float(size)), y=lost),
        "scatter": lambda: Scatter(title="t", x_axis=x, y_axis=y, points=np.full((size, 2), np.nan), value=lost),
        "heatmap": lambda: Heatmap(title="t", x_axis=x, y_axis=y, value_axis=value, values=square, x=names, y=names),
        "histogram": lambda: Histogram(title="t", x_axis=x, y_axis=y, groups=("g",), samples=lost[None]),
        "bars": lambda: Bars(title="t", x_axis=x, y_axis=y, label=names, value=lost),
        "table": lambda: Table(title="t", axes=(x, value), columns=(names, lost)),
        "token-strip": lambda: TokenStrip(title="t", value_axis=value, tokens=names, value=lost),
        "graph": lambda: Graph(title="t", weight_axis=value, nodes=names, position=np.zeros((size, 2)),
                               edges=np.zeros((size, 2), dtype=int), weight=lost),
        "images": lambda: Images(title="t", x_axis=x, y_axis=y, captions=tuple(names.tolist()),
                                 pixels=np.full((size, 4, 4), np.nan)),
    }  # fmt: skip
    return made[kind]()
