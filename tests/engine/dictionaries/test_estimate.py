"""The estimate before a run: shapes against real tensors, scaling against a known law, what cannot be known said so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.dictionaries import estimate as module
from engine.dictionaries.architectures import make
from engine.dictionaries.buffer import Buffer
from engine.dictionaries.estimate import in_time, step_seconds
from engine.dictionaries.requirements import requirements
from engine.dictionaries.trainer import Plan, Trainer
from engine.dictionaries.weights import Moments
from engine.errors import SuperscopeError
from engine.runs.control import Control, RunStopped
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.runs.run import Run
from engine.runs.sinks import MemorySink
from tests.engine.dictionaries.numbered import Numbered

EXPERIMENT = find("dictionary-estimate")
TRAINING = find("train-dictionary")
HOOK = "blocks.0.hook_resid_post"


def parameters(**values):
    return check(TRAINING.parameters, {"device": "cpu", "threads": 1, **values})


def asked(control=None, work=None, **values):
    """Facts of the look."""
    sink = MemorySink()
    run = Run("look-1", sink, control, work=work)
    EXPERIMENT.function(check(EXPERIMENT.parameters, {"device": "cpu", "threads": 1, **values}), run)
    assert set(sink.figures) == {"estimate"}
    return sink.facts


@pytest.mark.parametrize(
    "architecture",
    ["topk", "batchtopk", "matryoshka", "jumprelu", "relu", "gated", "transcoder", "skip-transcoder"],
)
def test_weights_and_moments_are_those_of_the_real_trainer(architecture):
    p = parameters(architecture=architecture, width=96, k=4)
    d_in, d_out = 20, 20 if architecture not in ("transcoder", "skip-transcoder") else 12
    moments = Moments(torch.zeros(d_in), torch.zeros(d_out), 1.0)
    made = make(p.choices, moments)
    trainer = Trainer(made.initial(d_in, d_out, torch.Generator().manual_seed(0)), made, Plan(10, 1e-3, 0, 0, 100))
    _, arrays = trainer.state()
    real = {"weights": 0, "moments": 0}
    for name, array in arrays.items():
        if name not in ("silent", "recent"):
            real["moments" if name.endswith("moment") else "weights"] += array.nbytes
    found = requirements(p, d_in, d_out, 10_000)
    assert {name: found.training[name] for name in real} == real
    assert found.training["gradients"] == real["weights"]
    assert found.data["checkpoint"] == real["weights"] + real["moments"]


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("held", [300, 100_000])
def test_the_buffer_is_as_large_as_the_real_one(held, paired):
    counts = np.full(50, 20)
    p = parameters(buffer=held, batch=32, architecture="transcoder" if paired else "topk")
    source = Numbered(counts, paired)
    buffer = Buffer(source, held, batch=32, seed=0)
    found = requirements(p, source.d_in, source.d_out, 1_000)
    assert found.data["buffer"] == buffer.bytes
    assert requirements(p.model_copy(update={"overlap": False}), 2, 2, 1_000).data["captured ahead"] == 0


@pytest.mark.parametrize(("width", "batch"), [(65_536, 4_096), (1_024, 16_384), (131_072, 64)])
def test_a_large_step_is_found_from_two_small_ones(monkeypatch, width, batch):
    """With a law a + b n, times the width, the estimate is exact whatever sizes it chose to time."""
    timed = []

    def law(p, width, batch, *others):
        timed.append(12.0 * 576 * width * batch)
        return width * (1e-6 + 2e-8 * batch)

    monkeypatch.setattr(module, "_step_seconds", law)
    found, scaled = step_seconds(parameters(width=width, batch=batch, k=32), 576, 576, "cpu")
    assert scaled
    assert max(timed) <= 1.01 * max(module.WORK, 12.0 * 576 * 512 * 256)
    assert found == pytest.approx(width * (1e-6 + 2e-8 * batch))


def test_a_small_step_is_timed_as_it_is():
    seconds, scaled = step_seconds(parameters(width=64, batch=64, k=4), 16, 16, "cpu")
    assert not scaled
    assert 1e-5 < seconds < 5


@pytest.mark.parametrize("steps", [1, 20, 300])
@pytest.mark.parametrize("held", [20_000, 90_000])
def test_captured_activations_are_those_that_the_real_buffer_asks_for(steps, held):
    p = parameters(batch=1_024, steps=steps, buffer=held)
    first, whole = module._captured(p, 90_000)
    buffer = Buffer(Numbered(np.full(900, 100)), held, batch=p.batch, seed=0)
    while buffer.hungry:
        buffer.feed()
    assert first <= buffer._came < first + 800
    for _ in range(steps):
        while buffer.hungry:
            buffer.feed()
        buffer.draw(p.batch)
    # The last draw is not followed by a feed, and chunks of 800 come in whole.
    assert buffer._came == pytest.approx(whole, abs=2 * p.batch + 800)


def test_an_open_model_is_timed_and_the_parts_add_up(tiny, tiny_hf):
    facts = asked(model=str(tiny_hf), hook=HOOK, tokens=5_000, context=32, width=64, k=4, steps=100, measure_every=50)
    seconds = facts["seconds"]
    assert facts["fits"]
    assert facts["problem"] == ""
    assert all(value > 0 for value in seconds.values())
    assert seconds["total"] == pytest.approx(seconds["capture"] + seconds["training"] + seconds["measure"])
    assert seconds["training"] == pytest.approx(100 * seconds["step"])
    assert facts["memory"]["model"] == 0
    assert facts["memory_needed"] >= sum(facts["memory"].values())
    assert "to capture" in facts["sentence"]


def test_the_demo_model_is_opened_for_it():
    facts = asked(tokens=5_000, width=128, batch=64)
    assert facts["seconds"]["capture"] is not None


def test_a_model_that_is_not_open_is_not_opened(tiny_gpt2, monkeypatch):
    monkeypatch.setattr(module, "SMALL_MODEL", 0)
    monkeypatch.setattr(module, "open_model", lambda *given, **options: pytest.fail("it opened the model"))
    facts = asked(
        model=str(tiny_gpt2),
        dtype="bfloat16",
        architecture="transcoder",
        hook_out="blocks.0.mlp.hook_post",
        width=64,
        k=4,
    )
    assert facts["seconds"]["total"] is None
    assert "known once the model is open" in facts["sentence"]
    assert facts["memory"]["model"] > 0
    d_in, d_out = 32, 128  # GPT-2's inner width is four times the model's
    assert facts["memory"]["weights"] == 4 * (64 * (d_in + d_out) + 64 + d_out)


def test_a_stored_set_is_read_for_it(tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(3_000, 24)).astype(np.float32))
    facts = asked(activations=str(tmp_path / "mine.npy"), width=64, k=4, batch=64, held_out=0)
    assert facts["memory"]["buffer"] == 3_000 * 24 * 4
    assert facts["memory"]["weights"] == 4 * (2 * 64 * 24 + 64 + 24)
    assert facts["seconds"]["total"] > 0


def test_a_width_that_does_not_fit_is_one_sentence(tiny, tiny_hf, monkeypatch):
    monkeypatch.setattr("engine.models.memory.available", lambda device="cpu": 200_000_000)
    values = {"model": str(tiny_hf), "hook": HOOK, "width": 1_000_000, "k": 4, "tokens": 5_000, "context": 32}
    facts = asked(**values)
    assert not facts["fits"]
    assert facts["sentence"] == facts["problem"]
    assert facts["problem"].startswith("Training 1,000,000 latents on 32 dimensions needs about ")
    assert "200 MB are free; choose a smaller width" in facts["problem"]
    needs = requirements(parameters(**values), 32, 32, 5_000)
    with pytest.raises(SuperscopeError, match=r"^Training 1,000,000 latents on 32 dimensions needs about "):
        needs.demand("cpu", parameters(**values), 32)
    monkeypatch.setattr("engine.models.memory.available", lambda device="cpu": 200_000_000_000)
    needs.demand("cpu", parameters(**values), 32)


def test_it_can_be_stopped_between_two_steps(tiny, tiny_hf):
    control = Control()
    control.stop()
    with pytest.raises(RunStopped):
        asked(control, model=str(tiny_hf), hook=HOOK, tokens=5_000, context=32)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00123, "1.2 ms"), (0.012, "12 ms"), (0.4, "0.4 s"), (59.7, "60 s"), (150, "2.5 min"), (7_300, "2.0 h"),
     (400_000, "5 days")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds, words):
    assert in_time(seconds) == words
