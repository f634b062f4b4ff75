"""What learned steering is trained and judged on: a labelled prompt set with a model behind it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.models.editing import splicing
from engine.steering.errors import SteeringError
from engine.steering.learned import Readout, ShiftNetwork, Steered, steered
from engine.steering.manifold import Manifold, to_oracle
from engine.steering.rows import PADDING, read, shown
from engine.text.prompt_sets import PromptRow, PromptSet

if TYPE_CHECKING:
    from engine.models.opening import OpenModel
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
MOST = 4_096  # pairs of a held-out prompt and a target that are measured
FEWEST = 8  # prompts with labels
RESAMPLES = 1_000


@dataclass(frozen=True, eq=False)
class Task:
    """Prompts with their labels, activations and answers.

    Attributes:
        ids: (n, longest) int64 tokens of the prompts, padded on the right;  last: (n,) index of each one's last token.
        x: (n, width) float32 activations at ``hook`` of each prompt's last token;  y: (n,) labels.
        answers: (classes,) token id of each label's answer.
        fitted, held: rows to train on and to judge on. Rows that differ in their label alone are in the same part.
        oracle: (n, classes) the row that differs in its label alone and has that one, -1 where there is none.
    """

    model: OpenModel
    hook: str
    classes: tuple[str, ...]
    ids: Tensor
    last: Tensor
    x: Tensor
    y: Tensor
    answers: Tensor
    fitted: Tensor
    held: Tensor
    oracle: Tensor

    def rest(self, moved: Tensor, items: Tensor) -> Tensor:
        """Logits (n, classes) of the answers with ``moved`` (n, width) at the last token of the prompts ``items``."""
        last = self.last[items]
        ids = self.ids[items, : int(last.max()) + 1]
        row = torch.arange(len(ids), device=ids.device)

        def put(x: Tensor) -> Tensor:
            edited = x.clone()
            edited[row, last] = moved.to(x.dtype)
            return edited

        with self.model.lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            logits: Tensor = self.model.bridge.run_with_hooks(
                ids, return_type="logits", fwd_hooks=splicing(self.hook, put)
            )
        return logits[row, last][:, self.answers].float()


def make_task(
    model: OpenModel, prompts: PromptSet, hook: str, *, prepend_bos: bool, share: float, seed: int, run: Run
) -> Task:
    """Encode the rows with a label, read their activations and hold out ``share`` of them.

    Raises:
        SteeringError: there are too few rows or labels, or answers that one token cannot tell apart.
        ModelError: there is no such hook point.
    """
    chosen = [row for row in prompts.rows if row.label]
    if len(prompts.classes) < 2 or len(chosen) < FEWEST:
        raise SteeringError(
            f"The prompt set {prompts.name} has {len(chosen)} rows with a label and {len(prompts.classes)} labels; learned "
            f"steering needs at least {FEWEST} rows and two labels, such as story-objects, days or sums."
        )
    answers = _answers(model, prompts)
    texts = [row.prompt for row in chosen]
    run.stage("Reading activations")
    empty = [""] * len(chosen)
    x = read(model, texts, empty, empty, hook=hook, read_at="prompt", prepend_bos=prepend_bos, run=run)
    tokens = [torch.tensor(model.encode(text, prepend_bos=prepend_bos)) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=PADDING)
    last = torch.tensor([len(one) - 1 for one in tokens])
    place = {label: number for number, label in enumerate(prompts.classes)}
    y = torch.tensor([place[row.label] for row in chosen])
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    told = _told_by_label(chosen)
    for number, row in enumerate(chosen):
        same = sorted((name, value) for name, value in row.factors.items() if name not in told)
        groups.setdefault(tuple(same), []).append(number)
    oracle = torch.full((len(chosen), len(prompts.classes)), -1)
    together = len(groups) > 1
    for members in groups.values() if together else ():
        labels = y[members]
        if len(set(labels.tolist())) == len(members):  # else factors do not say in what the rows differ
            oracle[torch.tensor(members)[:, None], labels] = torch.tensor(members)
    units = list(groups.values()) if len(groups) >= FEWEST else [[number] for number in range(len(chosen))]
    order = np.random.default_rng([seed, 20]).permutation(len(units))
    count = min(max(round(share * len(units)), 1), len(units) - 1)
    parts = [
        torch.tensor(sorted(row for unit in part for row in units[unit])) for part in (order[count:], order[:count])
    ]
    tensors = (part.to(model.device) for part in (ids, last, x, y, answers, *parts, oracle))
    return Task(model, hook, prompts.classes, *tensors)


def _told_by_label(rows: Sequence[PromptRow]) -> set[str]:
    """Factors that are the label in other words (the day before it): each label has one value of theirs."""
    names = {name for row in rows for name in row.factors}
    values: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for name in names:
            values.setdefault((name, row.label), set()).add(row.factors.get(name, ""))
    return {name for name in names if all(len(of) == 1 for (other, _), of in values.items() if other == name)}


def _answers(model: OpenModel, prompts: PromptSet) -> Tensor:
    """The first token of each label's completion, (classes,)."""
    by_label: dict[str, str] = {}
    for row in prompts.rows:
        if row.label and by_label.setdefault(row.label, row.positive) != row.positive:
            raise SteeringError(
                f"The label {shown(row.label)} has two answers, {shown(by_label[row.label])} and {shown(row.positive)}; the "
                "positive completion has to follow from the label."
            )
    tokens: dict[int, str] = {}
    for label in prompts.classes:
        found = model.encode(by_label[label], prepend_bos=False)
        if not found:
            raise SteeringError(f"The label {shown(label)} has no positive completion to answer with; give it one.")
        if found[0] in tokens:
            raise SteeringError(
                f"The answers of {shown(tokens[found[0]])} and {shown(label)} begin with the same token of "
                f"{model.facts.title}, so they cannot be told apart; use labels whose answers begin differently."
            )
        tokens[found[0]] = label
    return torch.tensor(list(tokens))


@dataclass(frozen=True, eq=False)
class Judged:
    """What a method did to held-out prompts, each moved to several labels; cases are (prompt, target).

    Attributes:
        method: in words.
        cases, prompts: how many.
        success: share of cases answered with the target, over the labels' answers;  low, high: 95 % bootstrap interval
            over prompts.
        step: (cases,) |x' - x| / |x|.
        distance: (cases,) to the nearest fitted activation, in medians of held-out ones; NaN where not measurable.
        turn: (cases,) cosine of the step and the oracle's; NaN where there is no oracle.
        right: (cases,) bool;  y, target: (cases,).
    """

    method: str
    cases: int
    prompts: int
    success: float
    low: float
    high: float
    step: Array
    distance: Array
    turn: Array
    right: Array
    y: Array
    target: Array


def cases(task: Task, seed: int) -> tuple[Tensor, Tensor]:
    """Held-out rows and targets, (cases,) each: every other label of each, or `MOST` of them drawn at random."""
    classes = len(task.classes)
    rows = task.held.repeat_interleave(classes)
    target = torch.arange(classes, device=rows.device).repeat(len(task.held))
    other = (target != task.y[rows]).nonzero()[:, 0]
    if len(other) > MOST:
        drawn = np.random.default_rng([seed, 21]).choice(len(other), MOST, replace=False)
        other = other[torch.from_numpy(np.sort(drawn)).to(other.device)]
    return rows[other], target[other]


def judge(task: Task, network: ShiftNetwork, untrained: Tensor, seed: int, run: Run) -> list[Judged]:
    """f, its controls and what it is compared with, on the same cases.

    Args:
        untrained: (classes, classes) bool, pairs (y, y') that f was not trained on.
    """
    rows, target = cases(task, seed)
    x, y, classes = task.x[rows], task.y[rows], len(task.classes)
    source = torch.Generator().manual_seed(seed)
    wrong = (y + torch.randint(1, classes, (len(y),), generator=source).to(y.device)) % classes
    noise = torch.randn(x.shape, generator=source).to(x.device)
    means = class_means(task)
    with torch.no_grad():
        moved = network(x, y, target)
        misled = network(x, wrong, target)
    noise *= ((moved - x).norm(dim=1) / noise.norm(dim=1))[:, None]
    oracle = task.oracle[rows, target]
    known = oracle >= 0
    new = untrained.to(y.device)[y, target]
    everything = torch.ones_like(known)
    tried: Sequence[tuple[str, Tensor, Tensor]] = [
        ("learned f", moved, ~new),
        ("learned f, pairs (y, y′) held out", moved, new),
        ("learned f, told a wrong y", misled, everything),
        ("oracle patch", task.x[oracle.clamp_min(0)], known),
        ("difference of the labels' means", x + means[target] - means[y], everything),
        ("random vector of equal norm", x + noise, everything),
        ("nothing", x, everything),
    ]
    bank, real = task.x[task.fitted].cpu().numpy(), task.x[task.held].cpu().numpy()
    try:
        manifold: Manifold | None = Manifold(bank, real)
    except SteeringError as problem:
        manifold = None
        run.say(f"Distances are not measured. {problem}", "warning")
    found = []
    for name, put, chosen in run.track(tried, unit="methods"):
        at = chosen.nonzero()[:, 0]
        if not len(at):
            continue
        done = steered(put[at], x[at], rows[at], target[at], task.rest, batch=_together(task), run=run)
        found.append(_judged(task, name, done, rows[at], target[at], manifold, seed))
    return found


def class_means(task: Task) -> Tensor:
    """Mean of the fitted activations of each label, (classes, width); that of all where a label has none."""
    x, y = task.x[task.fitted].double(), task.y[task.fitted]
    sums = torch.zeros(len(task.classes), x.shape[1], dtype=torch.float64, device=x.device).index_add_(0, y, x)
    count = torch.bincount(y, minlength=len(task.classes))[:, None]
    return torch.where(count > 0, sums / count.clamp_min(1), x.mean(0)).float()


def clean_accuracy(task: Task, run: Run) -> float:
    """Share of all rows whose own answer is the likeliest of the labels' answers."""
    items = torch.arange(len(task.x), device=task.x.device)
    return float(
        steered(task.x, task.x, items, task.y, task.rest, batch=_together(task), run=run).success.double().mean()
    )


def readout(task: Task) -> tuple[Readout, float]:
    """The label read off the fitted activations, and its accuracy on held-out ones."""
    found = Readout.fit(task.x[task.fitted], task.y[task.fitted], len(task.classes))
    return found, float((found(task.x[task.held]) == task.y[task.held]).double().mean())


def _together(task: Task) -> int:
    """Prompts in a pass whose logits stay below 256 MB."""
    size = 4 * task.ids.shape[1] * task.model.facts.vocabulary
    return max(min(256_000_000 // max(size, 1), 512), 1)


def _judged(
    task: Task, name: str, done: Steered, rows: Tensor, target: Tensor, manifold: Manifold | None, seed: int
) -> Judged:
    right = done.success.cpu().numpy()
    low, high = interval(right, rows.cpu().numpy(), np.random.default_rng([seed, 22]))
    put = done.moved.cpu().numpy()
    distance = np.full(len(right), np.nan) if manifold is None else manifold.nearest(put).plain
    oracle = task.oracle[rows, target]
    known = (oracle >= 0).cpu().numpy()
    turn = np.full(len(right), np.nan)
    if known.any():
        x, wanted = task.x[rows].cpu().numpy(), task.x[oracle.clamp_min(0)].cpu().numpy()
        turn[known] = to_oracle(x[known], put[known], wanted[known]).step
    return Judged(
        name,
        len(right),
        len(torch.unique(rows)),
        float(right.mean()),
        low,
        high,
        done.step.cpu().numpy(),
        distance,
        turn,
        right,
        task.y[rows].cpu().numpy(),
        target.cpu().numpy(),
    )


def interval(right: Array, prompts: Array, random: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of ``right`` (cases,), drawing whole ``prompts`` (cases,) with their cases."""
    _, which = np.unique(prompts, return_inverse=True)
    count, hits = np.bincount(which), np.bincount(which, weights=right)
    n = len(count)
    drawn = random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    low, high = np.quantile((drawn @ hits) / (drawn @ count), [0.025, 0.975])
    return float(low), float(high)
