"""What `number-helix` found, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.geometry.helix_scores import Scores
from engine.geometry.log_code import TURNS, Angles, Direction
from engine.geometry.periods import Spectrum

SAME_SIZE = ("polynomial", "random periods", "linear")
PARTIAL = 0.05  # share that is read beyond the other function, from which on it counts


def helix_sentence(name: str, scores: Scores, spectrum: Spectrum) -> str:
    """Whether there is a helix, and beside what."""
    held = scores.held
    helix = held["helix"]
    if helix.low > max(0.0, *(held[other].high for other in SAME_SIZE)):
        verdict = "Held-out numbers are predicted by the helix better than by other functions of its size"
    else:
        verdict = "No helix: held-out numbers are not predicted better than by other functions of its size"
    stand = ", ".join(f"{peak.period:.3g}" for peak in spectrum.peaks) or "none"
    sentence = (
        f"{verdict} at {name}: R² {helix.r2:.3f} ({helix.low:.3f} to {helix.high:.3f}); polynomial "
        f"{held['polynomial'].r2:.3f}, random periods {held['random periods'].r2:.3f}, line {held['linear'].r2:.3f}, PCA "
        f"of as many dimensions {held['PCA'].r2:.3f}. All numbers fitted {scores.in_sample['helix']:.3f}, shuffled "
        f"{scores.shuffled.mean():.3f} ± {scores.shuffled.std(ddof=1):.3f}, noise by its formula {scores.noise:.3f}. "
        f"Periods that stand out: {stand}."
    )
    if "digits" in held and held["digits"].r2 > helix.r2:
        sentence += (
            f" But digits, each by itself, predict {held['digits'].r2:.3f} (the last one alone "
            f"{held['last digit'].r2:.3f}) with more columns: what repeats may be the digit and not a circle."
        )
    return sentence


def angle_sentence(found: Angles, rivals: Mapping[str, Angles], planted: Angles, share: float) -> str:
    """Whether there is an angular code of log a; none is a result like any other."""
    gain = f"{found.gain[found.strongest]:.3f}"
    chance = f"{found.threshold:.3f} that the largest of {len(found.omega)} frequencies reaches in 5 % of shuffles"
    others = ", ".join(f"{float(one.gain[one.strongest]):.3f} along {name}" for name, one in rivals.items())
    if specific(found, rivals):
        omega = found.omega[found.strongest]
        sentence = (
            f"An angular code of log a was found: ω = {omega:.2f} adds {gain} to R², above the {chance}, and {others}."
        )
    elif found.gain[found.strongest] > found.threshold:
        sentence = (
            f"No angular code of log a was found: activations are not without structure (largest gain of R² {gain}, above the "
            f"{chance}), but they bend, or repeat as well elsewhere: {others}."
        )
    else:
        sentence = f"No angular code of log a was found: the largest gain of R² is {gain}, below the {chance}."
    power = (
        "was found too"
        if specific(found, rivals) and planted.found
        else "was found"
        if planted.found
        else "was not found"
    )
    return f"{sentence} A code planted with {share:.0%} of the variance {power}."


def specific(found: Angles, rivals: Mapping[str, Angles]) -> bool:
    """Whether there is an angle, and more of it along log a than along any of the others."""
    best = max((float(one.gain[one.strongest]) for one in rivals.values()), default=0.0)
    return found.found and float(found.gain[found.strongest]) > best


def control_sentence(found: Angles, planted: Angles) -> str:
    """What the same search finds along a itself."""
    periods = 2 * np.pi / found.omega
    ten = int(np.abs(found.omega - 2 * np.pi / 10).argmin())
    near = abs(found.omega[ten] - 2 * np.pi / 10) <= found.omega[0]
    best = f"the largest gain, {found.gain[found.strongest]:.3f}, is at a period of {periods[found.strongest]:.3g}"
    threshold = f"{found.threshold:.3f}"
    if near and found.turns[ten] >= TURNS:
        around = found.gain[max(ten - 1, 0) : ten + 2].max()
        side = "above" if around > found.threshold else "below"
        first = f"Along a itself a period of 10 adds {around:.3f} to R², {side} the threshold of {threshold}; {best}."
    else:
        first = f"Along a itself a period of 10 cannot be told by so few numbers; {best}, threshold {threshold}."
    return f"{first} A planted cosine {'was' if planted.found else 'was not'} found."


def direction_sentence(found: Direction) -> str:
    """Whether log a is written as a direction beside a."""
    log, line = found.targets["log a"], found.targets["a"]
    beyond, back = log.beyond["a"], line.beyond["log a"]
    if log.held <= max(float(log.shuffled.max()), PARTIAL):
        verdict = "The logarithm cannot be read off the activations"
    elif beyond > PARTIAL:
        verdict = "The logarithm is a direction" + (", and so is the number itself" if back > PARTIAL else "")
    elif back > PARTIAL:
        verdict = "The number is a direction rather than its logarithm"
    else:
        verdict = "The number and its logarithm cannot be told apart"
    return (
        f"{verdict}: held-out R² {log.held:.3f} for log a (shuffled {log.shuffled.mean():.3f}), {line.held:.3f} for a; "
        f"log a beyond a {beyond:.3f}, a beyond log a {back:.3f}."
    )
