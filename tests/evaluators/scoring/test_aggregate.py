"""Values and standard errors of task entries, computed from items; blocks joined."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mergesmith.evaluators import (
    BlockScores,
    ItemScores,
    Leaf,
    Scores,
    TaskEntry,
    entry_score,
    entry_value,
    entry_values,
    join,
    resamples,
)


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


@pytest.mark.parametrize("size", [1, 5, 300, 20_000])
def test_values_of_resamples_have_the_bits_of_one_after_another(size: int) -> None:
    group = entry(Leaf("a", 0.3, "mean"), Leaf("b", 0.5, "perplexity"), Leaf("c", 0.2, "mean"))
    noise = np.random.default_rng(size)
    found = scores(a=noise.random(size), b=-noise.random(3), c=noise.random(7))
    rng, sizes = np.random.Generator(np.random.PCG64(0)), {"a": size, "b": 3, "c": 7}
    chosen = [{leaf: rng.integers(0, n, n) for leaf, n in sizes.items()} for _ in range(60)]
    values = np.concatenate([entry_values(group, found, drawn) for drawn in resamples(sizes, 60)])
    assert values.tolist() == [entry_value(group, found, indices) for indices in chosen]


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
