"""The figures of ``max-of-k``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.figures.kinds import Axis, Heatmap, Lines, Table
from engine.toys.maximum.latents import FACTORS, OWN, Meaning
from engine.toys.maximum.proofs import Proof
from engine.toys.maximum.transformer import NEAR, Circuits, SizeDirection

Array: TypeAlias = npt.NDArray[Any]
SHOWN = 16  # singular values drawn
LEVEL = 60.0  # of the maps: about as far as scores reach at the end of training


def scores_map(c: Circuits) -> Heatmap:
    """EQKE without its row means."""
    numbers = np.arange(c.numbers)
    centred = c.scores - c.scores.mean(axis=1, keepdims=True)
    return Heatmap(
        title="Attention score of each number for each query (EQKE)",
        note="(E + P_last) W_Q W_Kᵀ Eᵀ / √d less each row's mean, which a softmax does not see. Rising along every row, all rows "
        "alike: one direction says how large a number is.",
        x_axis=Axis("Number attended to"),
        y_axis=Axis("Query: the last number"),
        value_axis=Axis("Score"),
        values=centred.astype(np.float16),
        x=numbers,
        y=numbers,
        diverging=True,
        levels=(-LEVEL, LEVEL),
    )


def writes_map(c: Circuits) -> Heatmap:
    """EVOU."""
    numbers = np.arange(c.numbers)
    return Heatmap(
        title="Logits that each number writes where it is attended to (EVOU)",
        note="E W_V W_O U. A bright diagonal: attending to a number is answering it.",
        x_axis=Axis("Answer"),
        y_axis=Axis("Number attended to"),
        value_axis=Axis("Logit"),
        values=c.writes.astype(np.float16),
        x=numbers,
        y=numbers,
        diverging=True,
        levels=(-LEVEL, LEVEL),
    )


def singular_lines(now: SizeDirection, control: SizeDirection) -> Lines:
    """Energy of the score table's singular values."""
    count = min(SHOWN, len(now.shares))
    return Lines(
        title="Singular values of the score table",
        note="Squared singular value over their sum, row means taken away. The control is the untrained transformer.",
        x_axis=Axis("Singular value"),
        y_axis=Axis("Share of the energy", "share", "log"),
        series=("trained so far", "control: untrained"),
        x=np.arange(1, count + 1),
        y=np.maximum([now.shares[:count], control.shares[:count]], 1e-12),
    )


def direction_lines(now: SizeDirection, control: SizeDirection) -> Lines:
    """The first right singular vector over the numbers."""
    return Lines(
        title="The direction of size",
        note="Entry of each number in the first right singular vector of the score table, its sign chosen to rise. A straight "
        "line would tell all neighbours apart alike. The control is the untrained transformer.",
        x_axis=Axis("Number"),
        y_axis=Axis("Entry of the singular vector"),
        series=("trained so far", "control: untrained"),
        x=np.arange(len(now.right)),
        y=np.stack((now.right, control.right)),
    )


def analysis_table(rows: Sequence[tuple[str, float, float, str]]) -> Table:
    """What was measured of the trained and the untrained transformer: (quantity, trained, untrained, definition)."""
    names, trained, untrained, meanings = zip(*rows, strict=True)
    return Table(
        title="Trained and untrained",
        note=f"Near ties: the largest number is drawn alike and the others lie within {NEAR} below it; uniform samples hide "
        "errors there.",
        axes=(Axis("Quantity"), Axis("Trained"), Axis("Control: untrained"), Axis("Definition")),
        columns=(np.array(names), np.array(trained), np.array(untrained), np.array(meanings)),
    )


def proof_table(rows: Sequence[tuple[str, str, Proof]], accuracy: dict[str, float]) -> Table:
    """Shares of sequences proven right beside the true or sampled accuracy of ``trained`` and ``untrained``."""
    share = Axis("Proven right", "share")
    return Table(
        title="What can be proven of the accuracy",
        note="Proven right is a lower bound on the accuracy over all sequences; the ratio says how much of the truth it reaches. "
        "Brute force tries every sequence. The cubic bound knows the score table, that of rank one only its first component and "
        "the largest entry of the rest for each query: shorter and looser. The control shows what the bounds say of chance.",
        axes=(Axis("Transformer"), Axis("Proof"), share, Axis("Bound / accuracy", "ratio"), Axis("Cases looked at")),
        columns=(
            np.array([who for who, _, _ in rows]),
            np.array([how for _, how, _ in rows]),
            np.array([proof.right for _, _, proof in rows]),
            np.array([proof.right / max(accuracy[who], 1e-12) for who, _, proof in rows]),
            np.array([float(proof.cases) for _, _, proof in rows]),
        ),
    )


def latents_map(activity: Sequence[tuple[str, Array]], order: Sequence[Array], width: int) -> Heatmap:
    """Mean activity of latents by the largest number: dictionaries (width, numbers) one below the other."""
    values = np.concatenate([table[rows] for (_, table), rows in zip(activity, order, strict=True)])
    labels = np.concatenate([[f"{who}{n}" for n in rows] for (who, _), rows in zip(activity, order, strict=True)])
    return Heatmap(
        title=f"Latents of logits by the largest number, width {width}, k = 1",
        note="Mean activity where each number is the largest, in units of the logits' root mean square distance from their mean; "
        "rows in the order of the numbers that they began at. One square for each row and column is one latent for each "
        "answer. Lower half: the same dictionary on the untrained transformer's logits (control).",
        x_axis=Axis("Largest number"),
        y_axis=Axis("Latent"),
        value_axis=Axis("Mean activity"),
        values=values.astype(np.float16),
        x=np.arange(values.shape[1]),
        y=labels,
        levels=(0.0, 1.5),
    )


def latents_table(rows: Sequence[tuple[str, int, Meaning]], sequences: int) -> Table:
    """What the dictionaries' latents stand for."""
    shares = {f"Told of the {name}": [row[2].splits[n] for row in rows] for n, name in enumerate(FACTORS)}
    columns: dict[str, Any] = {
        "Logits of": [who for who, _, _ in rows],
        "Width": [width for _, width, _ in rows],
        "FVU": [found.fvu for _, _, found in rows],
        "Living latents": [found.alive for _, _, found in rows],
        "Numbers with their own latent": [found.own for _, _, found in rows],
        "Purity": [found.purity for _, _, found in rows],
        "Latents for a number": [found.for_each for _, _, found in rows],
        **shares,
    }
    return Table(
        title="Dictionaries on the logits, k = 1",
        note=f"{sequences:,} sequences, each number the largest equally often. Own latent: active just where the number is the "
        f"largest (F1 above {OWN:g}). Purity: share of a latent's activations with its main largest number. Told: share of "
        "the factor's entropy given the largest number that the active latent tells, less the same with the factor "
        "shuffled among sequences of the same largest number.",
        axes=tuple(
            Axis(name, "" if name in ("Logits of", "Width", "Living latents", "Latents for a number") else "share")
            for name in columns
        ),
        columns=tuple(np.asarray(column) for column in columns.values()),
    )
