"""Configuration, split, blocks and aggregation, without any model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mergesmith.errors import Faults, UserError
from mergesmith.evaluators import (
    BlockScores,
    ChatConfig,
    ItemScores,
    Leaf,
    Scores,
    SplitConfig,
    TaskConfig,
    TaskEntry,
    entry_score,
    entry_value,
    join,
)
from mergesmith.evaluators.tasks.blocks import block_ends, make_blocks
from mergesmith.evaluators.tasks.documents import check_counts, digest, part_of


def test_a_bare_name_is_a_task() -> None:
    assert TaskConfig.model_validate("gsm8k") == TaskConfig(name="gsm8k", weight=1.0)
    assert ChatConfig() == ChatConfig(apply_template=False, system=None, fewshot_as_multiturn=True)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"name": "a", "wieght": 1}, "Extra inputs"),
        ({"name": "a", "weight": 0}, "greater than 0"),
        ({"name": "a", "max_drop": -0.1}, "greater than or equal to 0"),
        ({"name": "a", "limit": 0}, "greater than 0"),
        ({"name": ""}, "at least 1 character"),
        ({"name": "a", "python": "x:y", "metric": "acc", "limit": 3}, "a Python objective has no metric, limit"),
    ],
)
def test_task_settings_that_are_rejected(given: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TaskConfig.model_validate(given)


def test_shares_sum_to_one() -> None:
    assert SplitConfig(search=0.7, select=0.1, report=0.2).select == 0.1
    with pytest.raises(ValidationError, match=r"must sum to 1, but 0.6 \+ 0.2 \+ 0.3 is 1.1"):
        SplitConfig(report=0.3)
    with pytest.raises(ValidationError, match="greater than 0"):
        SplitConfig(search=0.8, select=0.2, report=0.0)


def test_parts_follow_the_shares_and_never_change() -> None:
    digests = [digest({"question": i}) for i in range(20_000)]
    split = SplitConfig()
    parts = [part_of(key, split) for key in digests]
    for part in ("search", "select", "report"):
        share = getattr(split, part)
        assert parts.count(part) / len(parts) == pytest.approx(share, abs=4 * math.sqrt(share / len(parts)))
    # A change here would move every user's items.
    written_down = "51ea4a015bf57b32336168fc743a8366704ee3f1c1b5668a57068719f24a4d8f"
    assert digest({"b": 1, "a": ["x", None]}) == digest({"a": ["x", None], "b": 1}) == written_down
    assert part_of("0" * 64, split) == "search"
    assert part_of("f" * 64, split) == "report"


def test_small_parts_are_faults_and_small_reports_warnings() -> None:
    faults = Faults("tasks")
    counts: Any = {"a": {"search": 30, "select": 9, "report": 4}, "b": {"search": 99, "select": 20, "report": 49}}
    warnings = check_counts(counts, SplitConfig(), faults)
    assert len(faults.messages) == 2
    assert [warning.split(":")[0] for warning in warnings] == ["b"]
    with pytest.raises(UserError, match=r"'report' \(share 0.2\) holds 4 of 43 items"):
        faults.raise_if_any()


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


def entry(*leaves: Leaf) -> TaskEntry:
    return TaskEntry("e", 1.0, "m", "none", 1, True, None, leaves)


def scores(**values: Any) -> Scores:
    made = {leaf: np.array(v, dtype=np.float64) for leaf, v in values.items()}
    return Scores("search", {leaf: ItemScores(tuple(map(str, range(len(v)))), v) for leaf, v in made.items()})


def test_value_and_error_of_a_mean() -> None:
    score = entry_score(entry(Leaf("a", 1.0, "mean")), scores(a=[0, 1, 1, 1]))
    assert (score.value, score.n) == (0.75, 4)
    assert score.stderr == pytest.approx(0.5 / 2)


def test_a_group_combines_its_leaves_by_share() -> None:
    group = entry(Leaf("a", 0.25, "mean"), Leaf("b", 0.75, "mean"))
    score = entry_score(group, scores(a=[0, 1], b=[0, 0, 1, 1]))
    assert score.value == 0.5
    assert score.stderr == pytest.approx(math.sqrt(0.0625 * 0.5 / 2 + 0.5625 * (1 / 3) / 4))
    # A leaf without items in this part leaves its share to the others; one with a single item borrows the variance.
    assert entry_value(group, scores(b=[0, 1])) == 0.5
    assert entry_score(group, scores(a=[1], b=[0, 0, 1, 1])).stderr == pytest.approx(
        math.sqrt(0.0625 * (1 / 3) + 0.5625 * (1 / 3) / 4)
    )
    with pytest.raises(ValueError, match="hold no items of 'e'"):
        entry_value(group, scores(c=[1.0]))


def test_other_aggregations_are_lm_evals_and_get_a_bootstrap_error() -> None:
    rows = [(-float(i % 7) - 3, 2.0 + i % 3) for i in range(40)]
    perplexity = entry(Leaf("a", 1.0, "weighted_perplexity"))
    score = entry_score(perplexity, scores(a=rows))
    assert score.value == pytest.approx(math.exp(-sum(a for a, _ in rows) / sum(b for _, b in rows)))
    assert 0.05 < score.stderr / score.value < 0.5
    assert score == entry_score(perplexity, scores(a=rows))


def test_values_of_selected_items() -> None:
    group = entry(Leaf("a", 0.5, "mean"), Leaf("b", 0.5, "perplexity"))
    chosen = {"a": np.array([1, 1, 2]), "b": np.array([0])}
    value = entry_value(group, scores(a=[0, 1, 0], b=[-1.0, -2.0]), chosen)
    assert value == pytest.approx(0.5 * 2 / 3 + 0.5 * math.e)


def test_join_orders_ids_as_numbers_and_checks() -> None:
    def block(index: int, ids: tuple[str, ...], part: Any = "search") -> BlockScores:
        return BlockScores(part, index, {"a": ItemScores(ids, np.array([float(i) for i in ids]))}, 0.1)

    joined = join([block(1, ("10", "2")), block(0, ("9",))])
    assert joined.items["a"].ids == ("2", "9", "10")
    assert joined.items["a"].values.tolist() == [2.0, 9.0, 10.0]
    with pytest.raises(ValueError, match="score an item twice"):
        join([block(0, ("1",)), block(1, ("1",))])
    with pytest.raises(ValueError, match="one part"):
        join([block(0, ("1",)), block(1, ("2",), part="report")])
