"""Hierarchical concepts: the tests on vectors with known answers, the data's marginals, and the experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ParameterError
from engine.figures import Bars, Graph, Images, Lines, Scatter, Table
from engine.runs.declaration import find
from engine.runs.parameters import check
from engine.text.toys import find as find_data
from engine.toys.costs import _costs
from engine.toys.ensembles import Streams
from engine.toys.hierarchies.data import Concepts
from engine.toys.hierarchies.survey import CONDITIONS, TESTS, Surveyor
from engine.toys.hierarchies.trees import (
    ROOT,
    Kind,
    hierarchy,
    node_vectors,
    offset_cosines,
    parent_cosines,
    simplices,
)
from tests.engine.toys.running import opened, quick, start, stopped_and_resumed

NAME = "hierarchical-concepts"
KINDS: tuple[Kind, ...] = ("binary", "ternary", "uneven", "partial-order")
SMALL: dict[str, Any] = {"steps": 30, "batch": 32}


@pytest.mark.parametrize(
    ("kind", "nodes", "leaves", "depth"),
    [("binary", 14, 8, 3), ("ternary", 12, 9, 2), ("uneven", 15, 9, 5), ("partial-order", 11, 6, 2)],
)
def test_hierarchies_have_the_shape_they_are_named_for(kind: Kind, nodes: int, leaves: int, depth: int) -> None:
    tree = hierarchy(kind)
    assert (len(tree.names), len(tree.table), tree.depth.max()) == (nodes, leaves, depth)
    assert len(set(tree.names)) == nodes
    for row, leaf in zip(tree.table, tree.leaves, strict=True):
        on = set(np.flatnonzero(row).tolist())
        assert leaf in on
        # What is on is the leaf and all that lies above it.
        assert on == {leaf} | {one for node in on for one in tree.parents[node] if one != ROOT}


def test_a_node_with_two_parents_is_on_only_where_both_are() -> None:
    tree = hierarchy("partial-order")
    for node, group in enumerate(tree.parents):
        if len(group) == 2:
            assert np.array_equal(tree.table[:, node], tree.table[:, group[0]] * tree.table[:, group[1]])


@pytest.mark.parametrize("kind", ["binary", "ternary", "uneven"])
def test_orthonormal_features_pass_p1_and_so_does_the_hierarchy_when_it_is_relabelled(kind: Kind) -> None:
    """The critique: with as many dimensions as features the test says nothing of the hierarchy."""
    tree = hierarchy(kind)
    nodes = len(tree.names)
    for order in (np.arange(nodes), np.random.default_rng(0).permutation(nodes)):
        vectors = np.zeros((nodes + 1, nodes))
        for node, (parent,) in enumerate(tree.parents):  # a node is its parent and an orthonormal offset of its own
            vectors[node] = np.eye(nodes)[order[node]] + (vectors[parent] if parent != ROOT else 0)
        assert parent_cosines(tree, vectors) == pytest.approx(0, abs=1e-6)
        found = simplices(tree, vectors)
        assert found[:, 0] == pytest.approx(0, abs=1e-6)
        assert found[:, 1] == pytest.approx(1)
        assert found[:, 2] == pytest.approx(0, abs=1e-6)


def test_means_over_symmetric_leaves_are_orthogonal_by_algebra() -> None:
    tree = hierarchy("binary")
    vectors = node_vectors(tree, tree.table)  # W is the identity
    assert parent_cosines(tree, vectors) == pytest.approx(0, abs=1e-6)
    assert offset_cosines(tree, vectors) == pytest.approx(0, abs=1e-6)


def test_node_vectors_are_means_of_the_leaves_below() -> None:
    tree = hierarchy("uneven")
    leaves = np.random.default_rng(0).standard_normal((len(tree.table), 4))
    found = node_vectors(tree, leaves)
    for node in range(len(tree.names)):
        assert found[node] == pytest.approx(leaves[tree.table[:, node] > 0].mean(axis=0))
    assert found[ROOT] == pytest.approx(leaves.mean(axis=0))


def test_cosines_are_those_of_the_pairs_by_hand() -> None:
    tree = hierarchy("partial-order")
    vectors = np.random.default_rng(1).standard_normal((len(tree.names) + 1, 6))
    expected = []
    for child, group in enumerate(tree.parents):
        for parent in group:
            if parent != ROOT:
                offset = vectors[child] - vectors[parent]
                lengths = np.linalg.norm(offset) * np.linalg.norm(vectors[parent])
                expected.append(abs(offset @ vectors[parent]) / lengths)
    assert parent_cosines(tree, vectors).tolist() == pytest.approx(expected)
    batch = np.stack([vectors, 2 * vectors[::-1]])
    assert parent_cosines(tree, batch)[0] == pytest.approx(parent_cosines(tree, vectors))
    assert simplices(tree, batch)[1] == pytest.approx(simplices(tree, batch[1]))


def test_siblings_in_a_line_are_no_simplex() -> None:
    tree = hierarchy("ternary")
    vectors = np.zeros((len(tree.names) + 1, 3))
    vectors[tree.children(ROOT)] = np.outer([0, 1, 2], [1.0, 0, 0])
    deviation, rank, edges = simplices(tree, vectors)[-1]
    assert deviation > 0.4
    assert rank == 0.5
    assert edges == pytest.approx(np.std([1, 1, 2]) / np.mean([1, 1, 2]))


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_independent_features_have_the_marginals_of_the_hierarchy(kind: Kind, continuous: bool) -> None:
    tree, trees, batch = hierarchy(kind), 2, 8_000
    numbers = Concepts.numbers(tree, trees, batch)
    hierarchical = torch.tensor([True, False])
    rates = 0.8 ** torch.arange(len(tree.table))
    source = Concepts(
        tree, trees, batch, hierarchical, Streams(0, 1, 2, numbers), active=0.6, rates=rates, continuous=continuous
    )
    together, apart = source.draw().numpy()
    nodes = len(tree.names)
    share = (rates / rates.sum() * 0.6).numpy() @ tree.table
    for x in (together, apart):
        assert (x > 0).mean(axis=1) == pytest.approx(np.tile(share, 2), abs=0.025)
    assert together.mean(axis=1) == pytest.approx(apart.mean(axis=1), abs=0.025)
    assert together.max() <= 1
    # Of the hierarchy only leaves' patterns occur, and both trees are independent; of the control, others do too.
    patterns = {tuple(column) for column in (together[:nodes] > 0).T.tolist()}
    assert patterns == {tuple(row > 0) for row in tree.table} | {(False,) * nodes}
    assert len({tuple(column) for column in (apart[:nodes] > 0).T.tolist()}) > 3 * len(patterns)
    both = ((together[:nodes].sum(axis=0) > 0) & (together[nodes:].sum(axis=0) > 0)).mean()
    assert both == pytest.approx(0.36, abs=0.03)
    inner = [node for node in range(nodes) if node not in tree.leaves]
    amplitudes = np.where(together[inner] > 0, together[inner], np.nan)
    known = amplitudes[:, ~np.isnan(amplitudes).all(axis=0)]
    assert np.nanmax(known, axis=0) == pytest.approx(np.nanmin(known, axis=0))  # one amplitude for all on the path


def test_random_directions_have_the_cosines_of_chance() -> None:
    tree = hierarchy("binary")
    widths = [50, 400]
    weights = np.zeros((2, 2, 1, 400, 14))
    weights[..., :14, :] = np.eye(14)
    found = Surveyor(tree, 1, widths, 0).survey(weights)
    assert found.mean.shape == (2, len(CONDITIONS), len(TESTS))
    assert found.mean[:, :2, :2] == pytest.approx(0, abs=1e-9)
    # Directions in more dimensions are nearer to orthogonal, by the square root of their number.
    assert found.mean[0, 2, 1] / found.mean[1, 2, 1] == pytest.approx(np.sqrt(8), rel=0.25)
    assert np.isnan(found.mean[..., 2:]).all()  # two siblings test nothing
    assert found.mean[0, 3, 1] > 0.1  # relabelled, it fails where the tree passes
    assert found.repeats == (1, 1, 20, 20)


def test_a_quick_run_sets_the_tree_beside_its_three_controls(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path)
    table = recording.figure("results")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    assert columns["Condition"].tolist() == list(CONDITIONS) * 4
    assert sorted(set(columns["Hidden m"].tolist())) == [2, 5, 6, 14]
    shown = {name: columns["P1 parent"][8 + number] for number, name in enumerate(CONDITIONS)}
    assert columns["Hidden m"][8] == 6
    assert shown["tree"] < 0.1 < shown["independent features"]
    for key, name in (("tree", "tree"), ("random", "random directions")):
        assert recording.metric(f"p1_{key}")[-1, 1] == pytest.approx(shown[name])
    bars, sweep, cosines = recording.figure("tests"), recording.figure("sweep"), recording.figure("cosines")
    assert isinstance(bars, Bars)
    assert len(bars.label) == 8
    assert bars.value[:4].tolist() == pytest.approx(list(shown.values()), abs=1e-6)
    assert isinstance(sweep, Lines)
    assert sweep.series == CONDITIONS
    assert isinstance(cosines, Images)
    assert cosines.captions == CONDITIONS
    assert isinstance(recording.figure("nodes"), Scatter)
    graph = recording.figure("hierarchy")
    assert isinstance(graph, Graph)
    assert len(graph.edges) == 12
    assert recording.movie_names() == ["cosines", "sweep", "sweep-offsets", "tests"]
    # Narrower models of the ensemble have stayed as narrow as they began.
    weights = recording.kept("weights")
    assert weights.shape == (4, 2, 2, 14, 14)
    assert not weights[0, :, :, 2:].any()
    assert weights[0, :, :, :2].any()


def test_the_kept_model_is_the_trained_one_of_the_shown_width(tmp_path: Path) -> None:
    recording = quick(NAME, tmp_path, **SMALL, trees=2, active=0.3)
    model = opened(NAME, tmp_path)
    network = model.bridge.network
    place = recording.kept("widths").tolist().index(6)
    kept = [np.array_equal(network.weights["W"], one[:6]) for one in recording.kept("weights")[place, 0]]
    assert sum(kept) == 1
    _, data = find_data(f"{NAME}-1", tmp_path)
    with torch.no_grad():
        found = model.bridge(torch.from_numpy(data.tokens[:4].astype(np.int64))).numpy()
    w, b, x = network.weights["W"], network.weights["b"], network.inputs[:256]
    assert np.allclose(found.reshape(256, -1), np.maximum(x @ w.T @ w + b, 0), atol=1e-5)
    assert data.names[0] == "1.a"
    assert data.names[14] == "2.a"


@pytest.mark.parametrize("kind", ["ternary", "uneven", "partial-order"])
def test_other_hierarchies_are_tested_as_far_as_they_can_be(tmp_path: Path, kind: Kind) -> None:
    recording = quick(NAME, tmp_path, **SMALL, tree=kind, hidden=5, importance_decay=0.7, rate_decay=0.9)
    table = recording.figure("results")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    for test in ("P1 parent", "P1 offsets", "P2 deviation", "P2 rank"):
        assert np.isfinite(columns[test]).all(), test


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path: Path) -> None:
    stopped_and_resumed(NAME, tmp_path, stop=11, metric="p1_tree", size="quick", **SMALL)


@pytest.mark.slow
def test_in_superposition_the_tree_is_nearer_to_orthogonal_and_beyond_it_nothing_is_shown(tmp_path: Path) -> None:
    recording = start(NAME, tmp_path, size="demo")
    table = recording.figure("results")
    assert isinstance(table, Table)
    columns = dict(zip((axis.label for axis in table.axes), table.columns, strict=True))
    found = {
        (int(m), str(name)): value
        for m, name, value in zip(columns["Hidden m"], columns["Condition"], columns["P1 parent"], strict=True)
    }
    assert found[6, "tree"] < 0.05
    assert found[6, "independent features"] > 0.15
    assert found[14, "tree"] < 0.05
    assert found[14, "independent features"] < 0.05


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden": 15}, "hidden=15 is more than the 14 features"),
        ({"active": 0}, "active=0"),
        ({"active": 1e-9}, "active=1e-09"),
        ({"tree": "bush"}, "tree="),
    ],
)
def test_parameters_that_make_no_sense_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as problem:
        check(find(NAME).parameters, values)
    assert said in str(problem.value)


def test_the_estimate_says_time_and_memory() -> None:
    found = _costs[NAME](check(find(NAME).parameters, {"size": "quick"}))
    assert found.seconds > 0.05
    assert found.memory > 10**5
