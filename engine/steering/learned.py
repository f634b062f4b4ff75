"""Learned steering: f(x, y, y') = x + MLP([x, emb(y), emb(y')]), trained through the frozen rest of a model.

The network is told which label y the activation has and which label y' it is to have. It is trained on the
cross-entropy of the model's answer to y', and optionally on keeping close: β |x' - x|² / |x|². Some pairs (y, y') are never
trained on, so that what it does there tells a rule from a table. After Tan 2024, learned nonlinear steering.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.steering.errors import SteeringError

if TYPE_CHECKING:
    from engine.runs.run import Run

Array: TypeAlias = npt.NDArray[Any]
Rest: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(n, width) steered activations and (n,) int64 items: logits (n, classes) over the answers, with a gradient."""
EMBEDDING = 32  # values that stand for a label
START = 0.1  # size of the first shifts, relative to the usual ones of such a layer: f begins near the identity
RIDGE = 1e-2  # of the readout, relative to the mean variance of a dimension
CURVES = ("loss", "success", "step")
PREFIX = "learned "  # before the names of the arrays that a run keeps of it


class ShiftNetwork(torch.nn.Module):
    """f of the module's description. Activations are centred and scaled by constants before they enter.

    Attributes:
        centre, scale: (width,) mean and () root mean square deviation of the activations that it was made for.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, width: int, classes: int, *, hidden: int, source: torch.Generator) -> None:
        super().__init__()
        inputs = width + 2 * EMBEDDING
        sizes: dict[str, tuple[tuple[int, ...], float]] = {
            "source": ((classes, EMBEDDING), 1.0),
            "target": ((classes, EMBEDDING), 1.0),
            "in": ((inputs, hidden), inputs**-0.5),
            "b_in": ((hidden,), 0.0),
            "out": ((hidden, width), START * hidden**-0.5),
            "b_out": ((width,), 0.0),
        }
        self.weights = torch.nn.ParameterDict(
            {
                name: torch.nn.Parameter(torch.randn(size, generator=source) * spread)
                for name, (size, spread) in sizes.items()
            }
        )
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def of(cls, x: Tensor, classes: int, *, hidden: int, source: torch.Generator) -> ShiftNetwork:
        """A new network for activations like ``x`` (n, width), with first weights from ``source``."""
        made = cls(x.shape[1], classes, hidden=hidden, source=source)
        values = x.double().cpu()
        made.centre.copy_(values.mean(0))
        made.scale.copy_((values - values.mean(0)).square().mean().sqrt().clamp_min(1e-12))
        return made.to(x.device)

    def forward(self, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Steered activations (n, width) of ``x`` (n, width) from labels ``y`` (n,) to ``target`` (n,), int64."""
        w = self.weights
        inputs = torch.cat([(x - self.centre) / self.scale, w["source"][y], w["target"][target]], dim=1)
        shift: Tensor = (inputs @ w["in"] + w["b_in"]).relu() @ w["out"] + w["b_out"]
        return x + self.scale * shift

    def arrays(self) -> dict[str, Array]:
        """Weights and constants by name, float32; `from_arrays` takes them."""
        return {name.replace("weights.", ""): value.cpu().numpy() for name, value in self.state_dict().items()}

    def widened(self, value: float) -> ShiftNetwork:
        """The same network for activations with one dimension more, which is always ``value`` and is left as it is."""
        arrays = self.arrays()
        width = len(arrays["b_out"])
        arrays["in"] = np.insert(arrays["in"], width, 0.0, axis=0)
        arrays["b_out"] = np.append(arrays["b_out"], np.float32(0))
        arrays["out"] = np.pad(arrays["out"], ((0, 0), (0, 1)))
        arrays["centre"] = np.append(arrays["centre"], np.float32(value))
        return self.from_arrays(arrays)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> ShiftNetwork:
        """The network that `arrays` has described."""
        width, classes, hidden = len(arrays["b_out"]), len(arrays["source"]), len(arrays["b_in"])
        made = cls(width, classes, hidden=hidden, source=torch.Generator())
        names = made.state_dict()
        made.load_state_dict({name: torch.from_numpy(np.array(arrays[name.replace("weights.", "")])) for name in names})
        return made


@dataclass(frozen=True)
class ShiftPlan:
    """How f is trained: AdamW with a cosine schedule. ``beta`` is the price of moving, β."""

    steps: int = 1_200
    batch: int = 512
    lr: float = 3e-3
    hidden: int = 256
    beta: float = 0.0


def held_out_pairs(classes: int, share: float, source: torch.Generator) -> Tensor:
    """(classes, classes) bool: pairs (y, y'), y ≠ y', that are not trained on; at least one where ``share`` > 0.

    Every y keeps a target to train on, and every y' a source, or its embedding would never be trained.

    Raises:
        SteeringError: there are fewer than two classes.
    """
    if classes < 2:
        raise SteeringError(f"Labels can be changed only where there are at least two; this set has {classes}.")
    held = torch.zeros(classes, classes, dtype=torch.bool)
    count = max(round(share * classes * (classes - 1)), 1) if share > 0 else 0
    for number in torch.randperm(classes * classes, generator=source).tolist():
        y, target = divmod(number, classes)
        if y == target or count == 0:
            continue
        if held[y].sum() < classes - 2 and held[:, target].sum() < classes - 2:
            held[y, target] = True
            count -= 1
    return held


class ShiftTrainer:
    """Trains a `ShiftNetwork`; what it drew from and where it is can be stored and restored exactly.

    Attributes:
        step: optimiser steps done.
        history: (steps, `CURVES`) float32: loss in nats, success and mean |x' - x| / |x| of each batch; NaN before.
    """

    def __init__(
        self,
        network: ShiftNetwork,
        x: Tensor,
        y: Tensor,
        rows: Tensor,
        held: Tensor,
        rest: Rest,
        plan: ShiftPlan,
        source: torch.Generator,
    ) -> None:
        """Train on ``rows`` (n,) of activations ``x`` (items, width) with labels ``y`` (items,).

        Args:
            held: (classes, classes) bool, pairs (y, y') that are left out (`held_out_pairs`).
            rest: the frozen rest of the model; its items are indices into ``x``.
            source: of the batches; on the processor.

        Raises:
            SteeringError: there are no rows to train on.
        """
        if not len(rows):
            raise SteeringError("There is no row to train on; take more prompts.")
        self.network, self.x, self.y, self.rows, self.rest, self.plan = network, x, y, rows, rest, plan
        self.step = 0
        self.history = torch.full((plan.steps, len(CURVES)), torch.nan)
        self._source = source
        # Targets of each label that may be drawn, as weights; its own label is none of them.
        self._weights = (~held & ~torch.eye(len(held), dtype=torch.bool)).float()
        self._weights_of = list(network.weights.values())
        self._optimiser = torch.optim.AdamW(self._weights_of, lr=plan.lr)

    def train_step(self) -> tuple[float, float, float]:
        """One optimiser step; loss, success and relative step of its batch (`CURVES`) before it."""
        plan = self.plan
        rows = self.rows[torch.randint(len(self.rows), (plan.batch,), generator=self._source)]
        y = self.y[rows].cpu()
        target = torch.multinomial(self._weights[y], 1, generator=self._source)[:, 0]
        rows, y, target = (part.to(self.x.device) for part in (rows, y, target))
        x = self.x[rows]
        moved = self.network(x, y, target)
        relative = (moved - x).square().sum(1) / x.square().sum(1).clamp_min(1e-12)
        logits = self.rest(moved, rows)
        loss = F.cross_entropy(logits, target) + plan.beta * relative.mean()
        # Of f's weights alone: the model's own need no gradient and may be in use elsewhere.
        for weight, gradient in zip(self._weights_of, torch.autograd.grad(loss, self._weights_of), strict=True):
            weight.grad = gradient
        for group in self._optimiser.param_groups:
            group["lr"] = plan.lr * 0.5 * (1 + math.cos(math.pi * self.step / plan.steps))
        self._optimiser.step()
        success = float((logits.detach().argmax(1) == target).float().mean())
        found = (float(loss.detach()), success, float(relative.detach().sqrt().mean()))
        if not math.isfinite(found[0]):
            raise SteeringError(
                f"The loss is no finite number any more at step {self.step + 1:,}: training diverged; choose a learning rate "
                f"below {plan.lr:g}."
            )
        self.history[self.step] = torch.tensor(found)
        self.step += 1
        return found

    def checkpoint(self) -> dict[str, Array]:
        """What `restore` needs."""
        arrays = {f"weight.{name}": value for name, value in self.network.arrays().items()}
        for number, state in self._optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser.{number}.{key}": torch.as_tensor(v).cpu().numpy().copy() for key, v in state.items()}
        arrays["random"] = self._source.get_state().numpy()
        arrays["history"] = self.history[: self.step].numpy().copy()
        return {name: np.array(array) for name, array in arrays.items()}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go on from a `checkpoint` as if training had not been interrupted."""
        weights = {name[7:]: array for name, array in arrays.items() if name.startswith("weight.")}
        self.network.load_state_dict(ShiftNetwork.from_arrays(weights).state_dict())
        state: dict[int, dict[str, Tensor]] = {}
        for name, array in arrays.items():
            if name.startswith("optimiser."):
                _, number, key = name.split(".", 2)
                state.setdefault(int(number), {})[key] = torch.from_numpy(np.array(array))
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        self._source.set_state(torch.from_numpy(np.array(arrays["random"])))
        self.step = len(arrays["history"])
        self.history[: self.step] = torch.from_numpy(np.array(arrays["history"]))


def train_shift(
    run: Run, trainer: ShiftTrainer, *, before: int = 0, every: int = 10, each: Callable[[int], None] | None = None
) -> None:
    """Train to the end of the plan, with pause, stop and progress at each step; every ``every`` steps are logged.

    Metrics are ``shift_loss``, ``shift_success`` and ``shift_step``: means over the steps since the last row. Their steps
    count on from ``before``, where others were trained in the same run. ``each`` is called after every step.

    Raises:
        SteeringError: training diverges.
        RunStopped: the person asked for it; the trainer can be stored (`ShiftTrainer.checkpoint`).
    """
    plan = trainer.plan
    for _ in run.track(range(trainer.step, plan.steps), total=plan.steps, start=trainer.step):
        trainer.train_step()
        if trainer.step % every == 0 or trainer.step == plan.steps:
            since = (trainer.step - 1) // every * every
            loss, success, step = trainer.history[since : trainer.step].mean(0).tolist()
            run.log(before + trainer.step, shift_loss=loss, shift_success=success, shift_step=step)
        if each is not None:
            each(trainer.step)


@dataclass(frozen=True, eq=False)
class Steered:
    """What f did with some activations.

    Attributes:
        moved: (n, width) steered activations.
        logits: (n, classes) over the answers.
        success: (n,) bool, whether the answer is the target's.
        step: (n,) |x' - x| / |x|.
    """

    moved: Tensor
    logits: Tensor
    success: Tensor
    step: Tensor


def steered(
    moved: Tensor, x: Tensor, items: Tensor, target: Tensor, rest: Rest, *, batch: int = 2_048, run: Run | None = None
) -> Steered:
    """What the rest of the model makes of ``moved`` (n, width) in place of ``x`` (n, width) of ``items`` (n,)."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(moved), batch):
            if run is not None:
                run.point()
            parts.append(rest(moved[start : start + batch], items[start : start + batch]))
    logits = torch.cat(parts)
    step = (moved - x).norm(dim=1) / x.norm(dim=1).clamp_min(1e-12)
    return Steered(moved, logits, logits.argmax(1) == target, step)


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear guess of the label: argmax of ``x @ weight + bias``; weight (width, classes), bias (classes,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = (x @ self.weight.to(x.device) + self.bias.to(x.device)).argmax(1)
        return found

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, classes: int) -> Readout:
        """Ridge regression of one-hot labels ``y`` (n,) on ``x`` (n, width), in float64."""
        values, wanted = x.double().cpu(), F.one_hot(y.cpu(), classes).double()
        centre, mean = values.mean(0), wanted.mean(0)
        centred = values - centre
        penalty = RIDGE * centred.square().sum() / centred.shape[1] + 1e-12
        gram = centred.T @ centred + penalty * torch.eye(centred.shape[1], dtype=torch.float64)
        weight = torch.linalg.solve(gram, centred.T @ (wanted - mean))
        return cls(weight.float(), (mean - centre @ weight).float())


@dataclass(frozen=True, eq=False)
class LearnedShift:
    """A trained f as an intervention: x + strength · (f(x, y, y') - x).

    The label y of an activation is read off it (``readout``); y' is ``target``, or where that is None the label after y, the
    first after the last. Activations that have the label y' already are left alone: f is not trained on them.

    Attributes:
        classes: names of the labels.
        hook, model: where it was trained.
    """

    network: ShiftNetwork
    readout: Readout
    classes: tuple[str, ...]
    hook: str
    model: str
    target: int | None = None

    def __call__(self, x: Tensor, strength: float) -> Tensor:
        network = self.network.to(x.device)
        with torch.no_grad():
            y = self.readout(x)
            wanted = (y + 1) % len(self.classes) if self.target is None else torch.full_like(y, self.target)
            moved: Tensor = torch.where((y == wanted)[:, None], x, network(x, y, wanted))
        return x + strength * (moved - x)

    def towards(self, label: str) -> LearnedShift:
        """The same network moving to ``label``; "" for the next one.

        Raises:
            SteeringError: there is no such label.
        """
        if label and label not in self.classes:
            raise SteeringError(
                f"target={label!r} is none of the labels {', '.join(self.classes[:12])}; choose one of them."
            )
        return replace(self, target=self.classes.index(label) if label else None)


def keep_learned(run: Run, found: LearnedShift) -> None:
    """Keep ``found`` with the run, so that `load_learned` gives it back."""
    for name, array in found.network.arrays().items():
        run.keep(PREFIX + name, array)
    readout = {"weight": found.readout.weight, "bias": found.readout.bias}
    for name, tensor in readout.items():
        run.keep(f"{PREFIX}readout {name}", tensor.cpu().numpy())
    run.keep(
        f"{PREFIX}classes",
        np.array(found.classes),
        hook=found.hook,
        model=found.model,
        what="labels, in the order of f's",
    )


def load_learned(work: Path | None, run_id: str, target: str = "") -> LearnedShift:
    """The f that the run ``run_id`` of `learned-steering` has trained, moving to ``target`` ("": the next label).

    Args:
        work: the session's work folder.

    Raises:
        SteeringError: there is no such run, it has not finished, or has no such label.
    """
    from engine.runs.recording import Recording
    from engine.session import SessionError, restore_recording

    if work is None:
        raise SteeringError(f"learned={run_id} is a run of a session, and no session is open; give one with --session.")
    none = f"This session has no run {run_id or 'of learned-steering'} with a learned f; run learned-steering first."
    if not run_id:
        raise SteeringError("The method learned needs the run that has trained f; name a run of learned-steering.")
    try:
        recording = Recording(restore_recording(work, run_id))
    except SessionError as problem:
        raise SteeringError(none) from problem
    if f"{PREFIX}classes" not in recording.kept_names():
        raise SteeringError(none)
    arrays = {
        name.removeprefix(PREFIX): np.array(recording.kept(name))
        for name in recording.kept_names()
        if name.startswith(PREFIX)
    }
    about = recording.kept_attributes(f"{PREFIX}classes")
    readout = Readout(*(torch.from_numpy(arrays.pop(f"readout {name}")) for name in ("weight", "bias")))
    classes = tuple(str(name) for name in arrays.pop("classes"))
    network = ShiftNetwork.from_arrays(arrays).eval()
    return LearnedShift(network, readout, classes, str(about["hook"]), str(about["model"])).towards(target)
