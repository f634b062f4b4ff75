"""Captured activations are those of the model, whichever way they are read, and no more of it is run than needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models import capture as capture_module
from engine.models.capture import bridge_read, capture, hook_width
from engine.models.errors import ModelError
from engine.models.native import SPECIAL, build_native
from engine.models.opening import OpenModel, open_model
from engine.models.plain import PlainForward
from engine.runs.control import RunStopped
from engine.runs.run import Progress, Run
from engine.runs.sinks import MemorySink

WORDS = [*SPECIAL, "a", "the", "bear", "sang", "to", "wolf", "and", "."]
NATIVE = {"d_model": 8, "n_layers": 2, "n_heads": 2, "d_head": 4, "d_mlp": 16, "n_ctx": 24, "d_vocab": len(WORDS)}


def ids_for(model: OpenModel, contexts: int = 5, length: int = 12) -> np.ndarray:
    return np.random.default_rng(1).integers(0, model.facts.vocabulary, (contexts, length)).astype(np.int32)


def gathered(model: OpenModel, ids: np.ndarray, hooks: list[str], **options: int) -> dict[str, torch.Tensor]:
    """All batches of a capture put together."""
    parts: dict[str, list[torch.Tensor]] = {hook: [] for hook in hooks}
    for _, found in capture(model, ids, hooks, **options):
        for hook in hooks:
            parts[hook].append(found[hook])
    return {hook: torch.cat(values) for hook, values in parts.items()}


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    """A native toy, opened as the demo model is."""
    from engine import places
    from engine.models.native import save_native, write_native

    home = tmp_path_factory.mktemp("resources")
    write_native(home / "demo", *save_native(build_native(NATIVE, WORDS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "resources", lambda: home)
        return open_model("demo", device="cpu")


@pytest.fixture(params=["tiny_hf", "tiny_gpt2", "native"])
def model(request: pytest.FixtureRequest) -> OpenModel:
    found = request.getfixturevalue(request.param)
    return open_model(str(found), device="cpu") if isinstance(found, Path) else found


@pytest.mark.parametrize("folder", ["tiny_hf", "tiny_gpt2"])
def test_the_residual_stream_is_that_of_a_bare_transformers_forward(
    folder: str, request: pytest.FixtureRequest
) -> None:
    from transformers import AutoModelForCausalLM

    path = request.getfixturevalue(folder)
    model = open_model(str(path), device="cpu")
    bare = AutoModelForCausalLM.from_pretrained(path).eval()
    ids = ids_for(model)
    found = gathered(model, ids, ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"])
    with torch.no_grad():
        states = bare(torch.as_tensor(ids, dtype=torch.long), output_hidden_states=True).hidden_states
    assert torch.allclose(found["blocks.0.hook_resid_pre"], states[0], atol=1e-5)
    assert torch.allclose(found["blocks.0.hook_resid_post"], states[1], atol=1e-5)
    assert torch.equal(found["blocks.0.hook_resid_post"], found["blocks.1.hook_resid_pre"])


def test_every_hook_point_gives_what_transformerlens_caches(model: OpenModel) -> None:
    ids = ids_for(model, 3)
    tokens = torch.as_tensor(ids, dtype=torch.long)
    points = [point for point in model.hook_points() if point.width]
    assert len(points) > 40
    found = gathered(model, ids, [point.name for point in points], batch=2)
    with torch.no_grad():
        _, cache = model.bridge.run_with_cache(tokens)
    for point in points:
        expected = cache[point.canonical].flatten(2)
        assert found[point.name].shape == (3, 12, hook_width(model, point.name))
        assert torch.allclose(found[point.name], expected, atol=2e-4, rtol=1e-4), point.name


def test_most_hook_points_are_read_without_transformerlens(model: OpenModel) -> None:
    """Else the fast way is broken, and only the tests of speed would show it."""
    assert model.plain is not None
    names = [f"blocks.1.{name}" for name in ("hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_z")]
    canonical = [model.hook_point(name).canonical for name in names]
    tokens = torch.as_tensor(ids_for(model, 1), dtype=torch.long)
    assert model.plain.serves(canonical, tokens, lambda: bridge_read(model, tokens, canonical))


def test_what_the_fast_way_reads_differently_comes_from_transformerlens(tiny: OpenModel) -> None:
    fresh = OpenModel(tiny.reference, tiny.bridge, tiny.tokenizer, tiny.facts)
    name = "blocks.1.hook_resid_post"
    canonical = fresh.hook_point(name).canonical
    plain = fresh.plain
    assert plain is not None
    plain._parts["blocks.1"] = plain._parts["blocks.0"]  # as if this hook point meant another place
    ids = ids_for(fresh)
    found = gathered(fresh, ids, [name])[name]
    assert plain._verified == {canonical: False}
    assert torch.allclose(found, gathered(tiny, ids, [name])[name], atol=1e-5)


@pytest.mark.parametrize("read", ["plain", "bridge"])
def test_nothing_after_the_deepest_hook_point_is_run(
    read: str, tiny: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = OpenModel(tiny.reference, tiny.bridge, tiny.tokenizer, tiny.facts)
    ids = ids_for(fresh)
    hooks = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"]
    gathered(fresh, ids, hooks)  # the probe of the first capture is behind us
    if read == "bridge":
        monkeypatch.setattr(PlainForward, "serves", lambda *a: False)
    ran = []
    root = fresh.plain._model if read == "plain" else fresh.bridge.original_model  # type: ignore[union-attr]
    handles = [
        root.get_submodule(part).register_forward_hook(lambda *a, part=part: ran.append(part))
        for part in ("model.layers.0.self_attn", "model.layers.1.self_attn", "model.norm", "lm_head")
    ]
    try:
        gathered(fresh, ids, hooks, batch=5)
    finally:
        for handle in handles:
            handle.remove()
    assert ran == ["model.layers.0.self_attn"]


def test_weights_are_shared_with_the_fast_way(tiny_hf: Path) -> None:
    model = open_model(str(tiny_hf), device="cpu", dtype="float32")
    assert model.plain is not None
    mine = {weight.data_ptr() for weight in model.bridge.original_model.parameters()}
    assert {weight.data_ptr() for weight in model.plain._model.parameters()} <= mine


def test_the_batch_size_changes_nothing_but_rounding(model: OpenModel) -> None:
    ids, hooks = ids_for(model, 7), ["blocks.1.hook_mlp_out"]
    one, all_at_once = gathered(model, ids, hooks, batch=1), gathered(model, ids, hooks, batch=100)
    assert torch.allclose(one[hooks[0]], all_at_once[hooks[0]], atol=1e-5)


def test_batches_come_in_order_and_cover_all_rows(tiny: OpenModel) -> None:
    rows = [rows for rows, _ in capture(tiny, ids_for(tiny, 7), ["blocks.0.hook_in"], batch=3)]
    assert rows == [slice(0, 3), slice(3, 6), slice(6, 7)]


def test_familiar_and_canonical_names_give_the_same_under_the_name_asked_for(tiny: OpenModel) -> None:
    found = gathered(tiny, ids_for(tiny), ["blocks.1.hook_resid_pre", "blocks.1.hook_in"])
    assert torch.equal(found["blocks.1.hook_resid_pre"], found["blocks.1.hook_in"])
    found["blocks.1.hook_in"].zero_()
    assert found["blocks.1.hook_resid_pre"].any()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_formats_come_out_as_float32_close_to_the_full_one(tiny_hf: Path, tiny: OpenModel, dtype: str) -> None:
    half = open_model(str(tiny_hf), device="cpu", dtype=dtype)
    ids, hooks = ids_for(tiny), ["blocks.1.hook_resid_post"]
    found, expected = gathered(half, ids, hooks)[hooks[0]], gathered(tiny, ids, hooks)[hooks[0]]
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert half.facts.memory * 2 == tiny.facts.memory


def test_activations_need_no_gradient_and_may_be_trained_on(tiny: OpenModel) -> None:
    found = gathered(tiny, ids_for(tiny), ["blocks.0.hook_resid_post"])["blocks.0.hook_resid_post"]
    assert not found.requires_grad
    weight = torch.zeros(32, 4, requires_grad=True)
    (found @ weight).sum().backward()  # fails on tensors made in inference mode
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model, ids: (ids, ["blocks.0.hook_resid_pst"]), "did you mean blocks.0.hook_resid_p"),
        (lambda model, ids: (ids, ["blocks.9.hook_resid_post"]), "blocks are numbered 0 to 1"),
        (lambda model, ids: (ids, ["blocks.0.attn.hook_pattern"]), "not a vector per token"),
        (lambda model, ids: (ids, []), "at least one hook point"),
        (lambda model, ids: (ids[0], ["blocks.0.hook_in"]), "shape"),
        (lambda model, ids: (ids.astype(float), ["blocks.0.hook_in"]), "float64"),
        (lambda model, ids: (np.zeros((1, 65), int), ["blocks.0.hook_in"]), "reads at most 64"),
    ],
)
def test_what_cannot_be_captured_is_refused_at_once(tiny: OpenModel, change: Callable, said: str) -> None:
    ids, hooks = change(tiny, ids_for(tiny))
    with pytest.raises(ModelError, match=said):
        capture(tiny, ids, hooks)


def test_an_id_outside_the_vocabulary_is_named(tiny: OpenModel) -> None:
    ids = ids_for(tiny)
    ids[3, 4] = 100_000
    with pytest.raises(ModelError, match="Token id 100000 is not in the vocabulary"):
        list(capture(tiny, ids, ["blocks.0.hook_in"], batch=2))


def test_a_run_hears_of_the_tokens_and_stops_between_batches(tiny: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Progress] = []

    class Listening(MemorySink):
        def progress(self, progress: Progress) -> None:
            heard.append(progress)
            run.control.stop()

    run = Run("pca-spectrum-1", Listening())
    forwards = []
    real = PlainForward.read
    monkeypatch.setattr(PlainForward, "read", lambda self, ids, names: (forwards.append(1), real(self, ids, names))[1])
    capture_module._can_be_plain(tiny, ["blocks.0.hook_in"], torch.zeros(1, 4, dtype=torch.long))
    forwards.clear()
    with pytest.raises(RunStopped):
        for _ in capture(tiny, ids_for(tiny, 6), ["blocks.0.hook_in"], batch=2, run=run):
            pass
    assert len(forwards) == 1
    assert (heard[0].done, heard[0].total, heard[0].unit) == (24, 72, "tokens")
