"""Values and standard errors of task entries, computed from items; blocks joined."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mergesmith.evaluators import BlockScores, ItemScores, Leaf, Scores, TaskEntry, entry_score, entry_value, join


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
