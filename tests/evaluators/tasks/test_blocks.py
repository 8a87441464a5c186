"""Blocks of items: sizes, proportions and order."""

from __future__ import annotations

import numpy as np
import pytest

from mergesmith.evaluators.tasks.blocks import block_ends, make_blocks, search_blocks


def test_blocks_cover_everything_once_in_even_proportions() -> None:
    items = {"big": tuple(range(300)), "small": tuple(range(1000, 1100))}
    blocks = make_blocks("search", items, ["tone"], seed=0, block_items=40)
    assert [len(block) for block in blocks] == [40, 20, 30, 45, 67, 101, 97]
    for leaf, ids in items.items():
        assert sorted(i for block in blocks for i in block.items[leaf]) == list(ids)
        share, held, done = len(ids) / 400, 0, 0
        for block in blocks:
            held, done = held + len(block.items[leaf]), done + len(block)
            assert abs(held - share * done) <= 1
    assert [block.items.get("tone") for block in blocks] == [None] * 6 + [()]
    assert blocks == make_blocks("search", items, ["tone"], seed=0, block_items=40)
    assert blocks != make_blocks("search", items, ["tone"], seed=1, block_items=40)
    assert blocks[0].items["big"] != tuple(range(30))


def test_blocks_grow_with_the_items_before_them() -> None:
    assert block_ends(500, 32) == (32, 48, 72, 108, 162, 243, 364, 500)
    assert block_ends(600, None) == (256, 600)
    assert block_ends(700, None) == (256, 512, 700)
    assert block_ends(0, 16) == (0,)
    assert block_ends(116, 32) == (14, 21, 31, 46, 69, 116)
    assert block_ends(30, 32) == (8, 12, 18, 30)
    assert block_ends(3, 1) == (1, 2, 3)
    ends = block_ends(5000, 32)
    assert max(np.diff(ends)) < 1.5 * 256


def test_blocks_start_with_each_leaf_as_often_as_its_share() -> None:
    """Leaves smaller than their share of a block: over seeds, each comes first as often as its size says."""
    items = {f"leaf{i}": tuple(range(3 if i else 27)) for i in range(10)}
    first = [make_blocks("search", items, [], seed=seed, block_items=8)[0].items for seed in range(400)]
    counts = [np.mean([len(held.get(leaf, ())) for held in first]) for leaf in items]
    assert counts[0] == pytest.approx(8 * 27 / 54, abs=0.15)
    assert np.allclose(counts[1:], 8 * 3 / 54, atol=0.1)


def test_blocks_without_items() -> None:
    (block,) = make_blocks("report", {}, ["tone"], seed=0, block_items=64)
    assert (block.items, len(block)) == ({"tone": ()}, 0)


def test_tasks_that_are_not_raced_come_last() -> None:
    """The raced tasks have the blocks that they would have alone, so a further task changes none of them."""
    items = {"a": range(90), "ppl": range(300), "b": range(40)}
    blocks = search_blocks(items, ["tone"], {"a", "b"}, seed=0, block_items=32)
    raced = make_blocks("search", {"a": range(90), "b": range(40)}, [], seed=0, block_items=32)
    assert blocks[: len(raced)] == raced
    assert [block.index for block in blocks] == list(range(len(blocks)))
    assert {leaf for block in blocks[len(raced) :] for leaf in block.items} == {"ppl", "tone"}
    assert blocks[-1].items["tone"] == ()
    assert sum(len(block) for block in blocks) == 430
    for same in ({"a", "ppl", "b"}, set()):  # all are raced, or none
        objectives = ["tone"] * (not same)
        expected = make_blocks("search", items, objectives, seed=0, block_items=32)
        assert search_blocks(items, objectives, same, seed=0, block_items=32) == expected
