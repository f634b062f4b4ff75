"""Figures of the look `steer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.figures.kinds import Axis, Bars, Histogram, Table, TokenStrip
from engine.figures.words import shortened
from engine.models.activation_figures import token_label
from engine.steering.effects import LIKELY, Changes, Divergence

if TYPE_CHECKING:
    from engine.steering.prepare import Prepared
    from engine.steering.steer import Steer

LONGEST = 14  # letters of a token beside a bar
LEAST = 0.001  # per cent below which a probability is not told from 0
SHIFTED = ("mean-difference", "random", "affine-mean")  # strength 1 moves each projection by exactly 1


def changes_figure(
    found: Changes, texts: Sequence[str], masses: Mapping[str, Sequence[float] | None], asked: Steer
) -> Bars:
    """Tokens whose log-probability as the first generated token changes most.

    Args:
        found: the changes.
        texts: of its tokens.
        masses: probability before and after that the token begins a positive and a negative completion of the set.
        asked: the strength is named.
    """
    labels = [
        f"{shortened(token_label(text), LONGEST)} {percent(before)}→{percent(after)} %"
        for text, before, after in zip(texts, found.before, found.after, strict=True)
    ]
    note = (
        f"log p(steered) − log p(clean) of the first generated token, beside each token its probability before→after. "
        f"Of the {LIKELY} likeliest tokens before or after, those that change most are shown (n = {len(labels)} tokens, one "
        f"prompt, strength {asked.strength:g}). Control: at strength 0 nothing changes."
    )
    for name, mass in masses.items():
        if mass is not None:
            note += f" The token begins a {name} completion of the set with probability {mass[0]:.3g} → {mass[1]:.3g}."
    if not labels:
        note += " Here none changes."
    return Bars(
        title="Changes of the next token's log-probability",
        note=note,
        x_axis=Axis("Token"),
        y_axis=Axis("Change of log-probability", "nats"),
        label=np.array(labels, dtype=np.str_),
        value=found.change,
        horizontal=True,
    )


def percent(probability: float) -> str:
    """``probability`` in per cent, two digits of it: a label has little room."""
    value = 100 * float(probability)
    return f"<{LEAST:g}" if value < LEAST else f"{value:.2g}" if value < 99.5 else "100"


def texts_figure(clean: Sequence[str], steered: Sequence[str], asked: Steer) -> Table:
    """Both continuations, token beside token, so that a run that is kept has them."""
    from engine.steering.effects import by_position

    count = max(len(clean), len(steered))
    left, right = ([*texts, *[""] * (count - len(texts))] for texts in (clean, steered))
    differs = by_position(left, right)
    return Table(
        title="Both texts, token by token",
        note=f"n = {len(clean)} tokens without and {len(steered)} with steering by {asked.method} at strength "
        f"{asked.strength:g}, both from the same random numbers (seed {asked.seed}, temperature {asked.temperature:g}). "
        f"{sum(differs)} of {count} places differ; behind the first of them the two have different pasts. A space in front is "
        "written ·. Control: at strength 0 both texts are equal.",
        axes=(Axis("Position", "tokens"), Axis("Not steered"), Axis("Steered"), Axis("Differs")),
        columns=(
            np.arange(1, count + 1),
            np.array([token_label(text) if text else "" for text in left], dtype=np.str_),
            np.array([token_label(text) if text else "" for text in right], dtype=np.str_),
            np.array(["yes" if one else "" for one in differs], dtype=np.str_),
        ),
    )


def kl_figure(found: Divergence, texts: Sequence[str], asked: Steer, control: Divergence | None) -> TokenStrip:
    """KL of the next-token distribution after each token of the clean text."""
    behind = found.continuation
    low, high = np.quantile(behind, [0.1, 0.9])
    note = (
        f"KL(clean ‖ steered) of the distribution of the token after the one shown, both models reading the clean text "
        f"({found.prompt} tokens of the prompt, then {len(texts) - found.prompt} of the clean continuation); strength "
        f"{asked.strength:g}. Mean over the {len(behind)} distributions from the prompt's last token on: {found.mean:.3g} "
        f"nats (10 to 90 % of them: {low:.3g} to {high:.3g})."
    )
    if control is not None:
        note += (
            f" Control: a random direction that moves activations equally far has a mean of {control.mean:.3g} nats."
        )
    else:
        note += " Control: at strength 0 it is 0 everywhere."
    most = float(found.kl.max(initial=0.0))
    return TokenStrip(
        title="KL of the next token, position by position",
        note=note,
        value_axis=Axis("KL(clean ‖ steered)", "nats"),
        tokens=np.array(texts, dtype=np.str_),
        value=found.kl,
        levels=(0.0, most) if most > 0 else None,
    )


def projections_figure(prepared: Prepared, asked: Steer) -> Histogram | None:
    """Where the rows lie along the direction from which the intervention was made; None where it has none."""
    if prepared.positive is None or prepared.negative is None:
        return None
    groups = {"Negative": prepared.negative.numpy(), "Positive": prepared.positive.numpy()}
    note = (
        f"Projections of the {len(prepared.negative)} negative and {len(prepared.positive)} positive rows that the direction "
        "was made from, from the midpoint of the two means; 1 is the distance that strength 1 moves an activation. "
        f"5 to 95 % of all rows span {prepared.high - prepared.low:.3g}."
    )
    if asked.method in SHIFTED:
        groups["Negative, steered"] = groups["Negative"] + asked.strength
        note += (
            f" Strength {asked.strength:g} moves each of them by {asked.strength:g}: beyond the positive rows' range the model "
            "is asked about activations that these rows never have."
        )
    note += (
        " This direction is the control: the two lie on one another."
        if asked.method == "random"
        else " Control: method random, along whose direction the two lie on one another."
    )
    samples = np.full((len(groups), max(len(values) for values in groups.values())), np.nan)
    for row, values in zip(samples, groups.values(), strict=True):
        row[: len(values)] = values
    return Histogram(
        title=f"Where the rows lie along the direction at {prepared.hook}",
        note=note,
        x_axis=Axis("Projection", "steps of strength 1"),
        y_axis=Axis("Rows"),
        groups=tuple(groups),
        samples=samples,
        violins=True,
    )
