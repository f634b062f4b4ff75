"""Planted families: theory against atoms set by hand, training against theory, and the experiment as it runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Graph, Heatmap, Lines, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text import toys as toy_texts
from engine.toys.small_dictionaries import Bench, Job, split_edges
from engine.toys.splitting import families as splitting
from engine.toys.splitting.families import World
from engine.toys.training import generator
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

T, C, D = 8, 8, 96


def planted(world: World = "family", rho: float = 0.5) -> splitting.Planted:
    return splitting.plant(world, T, C, rho, D, generator(0, 1))


@pytest.mark.parametrize("rho", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("per_token", [1, 2, 3, 5, 8])
def test_atoms_set_by_hand_leave_what_theory_says(rho: float, per_token: int) -> None:
    # 3 and 5 do not divide 8: the sizes of the groups do not matter.
    cells = planted(rho=rho)
    left = splitting.topk_fvu(cells.cells, splitting.grouped_atoms(cells, per_token), 1)
    assert left == pytest.approx(rho**2 * (1 - per_token / C) / (1 + rho**2), abs=1e-6)
    assert left == pytest.approx(splitting.derived_for(cells, per_token * T, 0), abs=1e-6)


def test_a_token_without_a_latent_is_lost_whole() -> None:
    cells = planted()
    atoms = splitting.grouped_atoms(cells, 2)[2:]  # those of token 0 are taken away
    assert splitting.topk_fvu(cells.cells, atoms, 1) == pytest.approx(splitting.derived_for(cells, 14, 1), abs=1e-6)


def test_parents_and_children_leave_nothing_with_two_latents_and_a_whole_part_with_one() -> None:
    for world, count in (("family", T + T * C), ("shared", T + C)):
        cells = planted(world)  # type: ignore[arg-type]
        left, bits, l0, atoms = splitting.by_hand(cells)
        assert (left, l0, atoms) == (pytest.approx(0, abs=1e-6), 2, count)
        rare = 1 / (T * C) if world == "family" else 1 / C
        h = lambda p: -p * math.log2(p) - (1 - p) * math.log2(1 - p)  # noqa: E731
        assert bits == pytest.approx(T * h(1 / T) + (count - T) * h(rare))
        one = splitting.topk_fvu(cells.cells, splitting.parent_and_child_atoms(cells), 1)
        assert one == pytest.approx(0.25 / 1.25, abs=1e-6)  # the parent alone: no context is told


def test_worlds_have_the_parts_that_they_are_named_for() -> None:
    family, same, apart = planted(), planted("identical"), planted("independent")
    gram = family.cells @ family.cells.T
    block = torch.full((C, C), 1.0) + 0.25 * torch.eye(C)
    assert torch.allclose(gram, torch.block_diag(*[block] * T), atol=1e-5)
    assert torch.allclose(same.cells.reshape(T, C, D), same.parents[:, None].expand(-1, C, -1))
    assert torch.allclose(apart.cells @ apart.cells.T, 1.25 * torch.eye(T * C), atol=1e-5)


def test_training_ends_on_the_derived_line_and_the_control_does_not_split() -> None:
    family, same = planted(), planted("identical")
    jobs = [Job("family", family.cells, width, 1) for width in (16, 40)] + [Job("identical", same.cells, 40, 1)]
    bench = Bench(jobs, steps=200, lr=7e-3, batch=512, seed=0)
    for _ in range(200):
        bench.train_step()
    for one in bench.small[:2]:
        found = splitting.measure(one, family)
        assert found.uncovered == 0
        assert found.fvu == pytest.approx(splitting.derived(0.5, C, found.alive / T), abs=0.01)
        assert found.cells == pytest.approx(T * C / found.alive)
        assert found.purity == 1
        assert found.strangers < 0.1 < 0.7 < found.family
    control = splitting.measure(bench.small[2], same)
    assert (control.alive, control.uncovered) == (T, 0)
    assert control.fvu < 1e-6
    assert control.cells == C


def test_a_dictionary_in_a_bench_learns_as_it_does_alone() -> None:
    cells = planted().cells
    jobs = [Job("family", cells, width, 1) for width in (16, 24)]
    both, alone = (Bench(few, steps=20, lr=7e-3, batch=32, seed=0) for few in (jobs, jobs[:1]))
    for _ in range(20):
        both.train_step()
        alone.train_step()
    assert torch.equal(both.small[0].atoms, alone.small[0].atoms)


def test_edges_say_how_often_the_narrow_latent_is_active_with_the_wide_one() -> None:
    parents = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=torch.bool)
    children = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=torch.bool)
    edges, weights = split_edges(parents, children, least=0.5)
    assert edges.tolist() == [[0, 0], [1, 1]]
    assert weights.tolist() == pytest.approx([1, 2 / 3])


def test_a_quick_run_shows_data_theory_and_controls(tmp_path: Path) -> None:
    recording = quick("feature-splitting", tmp_path)
    assert recording.metric("deviation")[-1, 1] < 0.01
    assert recording.metric("living_identical")[-1, 1] == 4 < recording.metric("living")[-1, 1]
    lines = recording.figure("fvu")
    assert isinstance(lines, Lines)
    assert {"derived, families", "families, k = 1", "control: identical contexts, k = 1"} <= set(lines.series)
    table = recording.figure("dictionaries")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    covered = np.isfinite(columns["Difference"])
    assert (np.abs(columns["Difference"][covered]) < 0.01).all()
    assert isinstance(recording.figure("tree"), Graph)
    movie = recording.movie("firing")
    assert 8 <= len(movie) <= 12
    assert isinstance(movie.frame(0), Heatmap)
    model = opened("feature-splitting", tmp_path)
    _, text = toy_texts.find("feature-splitting-1", tmp_path)
    out = model.bridge(torch.tensor(text.tokens.astype(np.int64)))
    assert text.features is not None
    directions = recording.thing_array("models", "feature-splitting-1", "directions")
    assert np.allclose(out.detach().numpy(), text.features.astype(np.float32) @ directions, atol=1e-5)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    stopped_and_resumed("feature-splitting", tmp_path, stop=13, metric="fvu", size="quick", steps=25, widths=[4, 8])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"d_model": 40}, "d_model=40 cannot hold 8 tokens and 64 cells at right angles; choose at least 72"),
        ({"tokens": 200, "contexts": 64}, "need d_model=17333"),
        ({"rho": 0}, "rho=0"),
        ({"rho": 1.5}, "rho=1.5"),
    ],
)
def test_impossible_worlds_are_refused_in_a_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        check(find("feature-splitting").parameters, values)


@pytest.mark.slow
def test_the_demo_reaches_its_acceptance(tmp_path: Path) -> None:
    recording = start("feature-splitting", tmp_path)
    assert recording.metric("deviation")[-1, 1] < 0.01
