"""The tree of hook points and its search."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QModelIndex, Qt
from PySide6.QtTest import QAbstractItemModelTester

from app.panels.hook_points import NAME, HookPoint, HookSearch, HookTree, layer_of, matches, read

POINTS = [
    HookPoint("embed.hook_out", "(batch, pos, 576)", None, "embedding"),
    *(
        HookPoint(f"blocks.{layer}.{part}", shape, layer, kind)
        for layer in range(12)
        for part, shape, kind in (
            ("hook_resid_post", "(batch, pos, 576)", "residual stream"),
            ("attn.hook_pattern", "(batch, 9, pos, pos)", "attention"),
            ("mlp.hook_out", "(batch, pos, 576)", "MLP"),
        )
    ),
]


def names(model: HookTree | HookSearch, parent: QModelIndex | None = None) -> list[str]:
    parent = parent or QModelIndex()
    found = []
    for row in range(model.rowCount(parent)):
        index = model.index(row, 0, parent)
        name = index.data(NAME)
        found += [name] if name else names(model, index)
    return found


@pytest.fixture
def tree(qtbot) -> HookTree:
    made = HookTree()
    made.set_points(POINTS)
    return made


def test_the_tree_is_a_sound_model_and_holds_each_hook_point_once(tree: HookTree) -> None:
    QAbstractItemModelTester(tree, QAbstractItemModelTester.FailureReportingMode.Fatal)
    assert sorted(names(tree)) == sorted(point.name for point in POINTS)
    assert [tree.index(row, 0).data() for row in range(3)] == ["Around the blocks", "Layer 0", "Layer 1"]
    assert tree.rowCount() == 13


def test_the_search_finds_all_words_in_any_order_and_column(tree: HookTree) -> None:
    search = HookSearch()
    search.setSourceModel(tree)
    QAbstractItemModelTester(search, QAbstractItemModelTester.FailureReportingMode.Fatal)
    search.search("post 1")
    assert names(search) == ["blocks.1.hook_resid_post"]
    search.search("attention 11")
    assert names(search) == ["blocks.11.attn.hook_pattern"]
    search.search("no such thing")
    assert search.rowCount() == 0
    search.search("")
    assert len(names(search)) == len(POINTS)


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [("blocks.12.mlp", ["1"], False), ("blocks.12.mlp", ["12"], True), ("blocks.1.MLP", ["mlp", "1"], True)],
)
def test_a_number_is_found_only_as_a_whole(text: str, words: list[str], found: bool) -> None:
    assert matches(text, words) is found


def test_plain_values_become_hook_points_with_layer_and_shape() -> None:
    found = read([{"name": "blocks.3.hook_in", "shape": ["batch", "pos", 64]}, {"name": "unembed.hook_out"}])
    assert found[0] == HookPoint("blocks.3.hook_in", "(batch, pos, 64)", 3)
    assert found[1].layer is None
    assert layer_of("blocks.17.attn.hook_z") == 17


def test_headings_say_how_many_hook_points_they_hold(tree: HookTree) -> None:
    assert tree.index(1, 1).data() == "3 hook points"
    assert tree.headerData(0, Qt.Orientation.Horizontal) == "Hook point"
