"""Small numpy experiments for the tests of runs, lanes, process and command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from engine.errors import SuperscopeError
from engine.figures import Axis, Lines, Table
from engine.runs import Action, ActionValue, Metric, Parameters, Run, RunStopped, experiment
from engine.runs.parameters import Prompt, Seed, Steps, Threads, TopK


class Counting(Parameters):
    steps: Steps = 5
    seconds: float = Field(0.0, ge=0, le=60, description="Time for each step", json_schema_extra={"unit": "s"})
    k: TopK = 3


@experiment(
    "sample-counting",
    title="Counting",
    area="Samples",
    cites="Peano 1889",
    metrics={"count": Metric("Count", "steps", "Steps done so far", group="counts")},
)
def counting(p: Counting, run: Run) -> None:
    """Counts to `steps`.

    The curve is a straight line.
    """
    for step in run.track(range(p.steps), unit="steps"):
        if p.seconds:
            time.sleep(p.seconds)
        run.log(step, count=step + 1, times_k=(step + 1) * p.k)
    run.show(
        "line",
        Lines(
            title="Counting",
            x_axis=Axis("Step"),
            y_axis=Axis("Count", "steps"),
            series=("count",),
            x=np.arange(p.steps),
            y=np.arange(p.steps) + 1,
        ),
    )
    run.keep("counts", np.arange(p.steps), unit="steps")
    run.fact("counted", p.steps)


class Filming(Parameters):
    seconds: float = Field(0.0, ge=0, le=60, description="Time for each step", json_schema_extra={"unit": "s"})


@experiment("sample-filming", title="Filming", area="Samples", metrics={"x": Metric("Place", "m", "How far")})
def filming(p: Filming, run: Run) -> None:
    """Shows two moving figures at steps of their own, and one that stands still."""

    def line(title: str, y: float) -> Lines:
        values = np.full(2, y)
        return Lines(
            title=title, x_axis=Axis("Step"), y_axis=Axis("y"), series=("a",), x=np.arange(2.0), y=values.copy()
        )

    for step in run.track(range(101)):
        if p.seconds:
            time.sleep(p.seconds)
        run.log(step, x=float(step))
        if step in (0, 1, 10, 100):
            run.show("often", line("Often", step), step=step)
        if step in (0, 100):
            run.show("seldom", line("Seldom", step), step=step)
    run.show("still", line("Still", -1.0))


class Planting(Parameters):
    seed: Seed = 0


@experiment("sample-planting", title="Planting", area="Samples")
def planting(p: Planting, run: Run) -> None:
    """Keeps a toy network with three planted features."""
    from engine.models.network import Network, Stage
    from engine.text.toys import ToyData
    from engine.toys.keeping import keep_toy

    random = np.random.default_rng(p.seed)
    names = ("left", "middle", "right")
    samples = np.where(random.random((400, 3)) < 0.4, random.random((400, 3)), 0)
    stages = [
        Stage(name="hidden", weight="W"),
        Stage(name="out", weight="W", transpose=True, activation="relu"),
    ]
    network = Network(stages, {"W": random.normal(size=(3, 8))}, samples, names)
    data = ToyData(np.arange(400).reshape(-1, 1), features=samples[:, None].astype(np.float16), names=names)
    keep_toy(
        run, network, data, title="Planted network", planted={"blocks.0.hook_hidden": (names, network.weights["W"])}
    )


class Choosing(Parameters):
    kind: Literal["topk", "relu", "gated"] = Field(
        "topk", description="Kind", json_schema_extra={"choices_help": {"topk": "The k largest", "relu": "Any size"}}
    )
    k: TopK = Field(3, ge=1, json_schema_extra={"unit": "latents", "when": {"kind": ["topk"]}})
    penalty: Literal["l1", "log"] = Field(
        "l1",
        description="Penalty",
        json_schema_extra={
            "advanced": True,
            "section": "Sparsity",
            "when": {"kind": ["relu", "gated"]},
            "choices_help": {"l1": "Laplace prior", "log": "Student's t prior"},
        },
    )
    tied: bool = Field(True, description="Tied", json_schema_extra={"advanced": True, "section": "Weights"})
    steps: Steps = 5
    seed: Seed = 0


@experiment(
    "sample-choosing",
    title="Choosing",
    area="Samples",
    metrics={"loss": Metric("Loss"), "size": Metric("Size")},
    estimate="sample-estimate",
)
def choosing(p: Choosing, run: Run) -> None:
    """Logs a curve per choice."""
    for step in run.track(range(p.steps)):
        run.log(step, loss=1 / (step + p.k), size=len(p.penalty))


class Needing(Parameters):
    kind: str = "topk"
    steps: Steps = 5


@experiment("sample-estimate", title="Estimate", area="Samples", lane="look")
def needing(p: Needing, run: Run) -> None:
    """Says how long `sample-choosing` takes."""
    if p.steps > 1_000:
        raise SuperscopeError(f"{p.steps} steps take too long; choose fewer.")
    axis = Axis("Need")
    run.show("estimate", Table(title="", note=f"About {p.steps} s.", axes=(axis,), columns=(np.array(["time"]),)))


ACTIONS = {
    "push": Action("Push…", "Moves the walker along x", ActionValue("Push", "m", 0.5, 10, metric="x")),
    "turn": Action("Turn round", "Takes it to the other side"),
}


class Strolling(Parameters):
    """No parameters."""


@experiment("sample-strolling", title="Strolling", area="Samples", actions=ACTIONS)
def stroll(p: Strolling, run: Run) -> None:
    """Stands at a place, from which it can be pushed, until it is stopped."""
    place = 0.0
    for step in run.track(endless(), unit="steps"):
        for action in run.actions(step):
            place = -place if action.name == "turn" else place + action.values["value"]
        run.log(step, x=place)
        time.sleep(0.01)


class Walk(Parameters):
    steps: Steps = 40
    every: int = Field(7, ge=1, le=1000, description="Steps between checkpoints")
    wait: bool = Field(False, description="Stand still at step 25 until stopped, once")
    disturb: Literal["", "stop", "error", "kill"] = ""
    at: int = Field(25, ge=0, le=10**6, description="Step of the disturbance")
    seed: Seed = 0


@experiment(
    "sample-walk",
    title="Random walk",
    area="Samples",
    resumable=True,
    actions=ACTIONS,
)
def walk(p: Walk, run: Run) -> None:
    """A random walk that can be resumed exactly: position, generator and step are in its checkpoints."""
    generator = np.random.Generator(np.random.PCG64(run.seed))
    position, first = np.zeros(3), 0
    if run.resumed is not None:
        position = run.resumed.arrays["position"].copy()
        first = int(run.resumed.values["step"])
        generator.bit_generator.state = json.loads(run.resumed.values["generator"])

    def save(step: int) -> None:
        state = json.dumps(generator.bit_generator.state)
        run.checkpoint({"step": step, "generator": state}, {"position": position})

    step = first
    try:
        for step in run.track(range(first, p.steps), total=p.steps, start=first):
            if step == p.at and run.resumed is None:
                _disturb(p, run)
            for action in run.actions(step):
                position = (
                    position * -1 if action.name == "turn" else position + np.array([action.values["value"], 0, 0])
                )
            position += generator.standard_normal(3)
            run.log(step, x=position[0], y=position[1])
            if (step + 1) % p.every == 0:
                save(step + 1)
    except RunStopped:
        run.fact("stopped at", step)
        raise
    run.keep("position", position)


def _disturb(p: Walk, run: Run) -> None:
    if p.wait:
        while True:
            run.point()
            time.sleep(0.002)
    if p.disturb == "stop":
        run.control.stop()
    elif p.disturb == "error":
        raise SuperscopeError("The walk came to a wall at step 25; take another way.")
    elif p.disturb == "kill":
        raise KeyboardInterrupt


class Threaded(Parameters):
    threads: Threads = 0


@experiment("sample-threads", title="Threads", area="Samples")
def threaded(p: Threaded, run: Run) -> None:
    """Says with how many threads torch computes."""
    import torch

    run.fact("threads", torch.get_num_threads())


class Breaking(Parameters):
    how: Literal["value", "memory", "numpy-memory", "torch-memory", "sentence", "exit"] = "value"
    tokens: int = Field(1000, ge=1, description="Tokens")


@experiment("sample-breaking", title="Breaking", area="Samples")
def breaking(p: Breaking, run: Run) -> None:
    """Ends in the way asked for."""
    run.log(0, before=1.0)
    if p.how == "memory":
        raise MemoryError
    if p.how == "numpy-memory":
        np.zeros(2**50, dtype=np.float64)
    if p.how == "torch-memory":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you …")
    if p.how == "sentence":
        raise SuperscopeError("The hook blocks.9 is not in this model; it has 4 layers.")
    if p.how == "exit":
        raise SystemExit(3)
    raise ValueError("shapes (3,4)\nand (5,) not aligned")


class Echo(Parameters):
    text: Prompt = ""
    how: Literal["answer", "wait", "memory", "error"] = "answer"


@experiment("sample-echo", title="Echo", area="Samples", lane="look")
def echo(p: Echo, run: Run) -> None:
    """Answers with the text it was asked, or waits until it is replaced."""
    run.stage("Listening")
    if p.how == "memory":
        raise MemoryError
    if p.how == "error":
        raise SuperscopeError("Nothing was said; say something.")
    while p.how == "wait":
        run.point()
        time.sleep(0.002)
    run.fact("text", p.text)
    run.keep("letters", np.array([ord(letter) for letter in p.text]))
    axis = Axis("Letter")
    run.show("line", Lines(title=p.text, x_axis=axis, y_axis=axis, series=("s",), x=np.arange(2), y=np.ones(2)))


def endless() -> Iterable[int]:
    step = 0
    while True:
        yield step
        step += 1


class Endless(Parameters):
    seconds: float = Field(0.002, ge=0, le=60, description="Time for each step")


@experiment("sample-endless", title="Endless", area="Samples")
def run_endlessly(p: Endless, run: Run) -> None:
    """Counts until it is stopped."""
    for step in run.track(endless(), unit="steps"):
        if step == 0:
            run.say("In the first batch.")
        time.sleep(p.seconds)
        run.log(step, count=step)
        if step == 10:
            run.keep("ten", np.arange(10))
