"""Limits compared with the report items, and differences of single tasks."""

from __future__ import annotations

import numpy as np
import pytest

from mergesmith.evaluators import ItemScores, Leaf, Score, Scores, TaskEntry
from mergesmith.merge_ops import Recipe, Source
from mergesmith.optimizer.run_folder.trial import Trial
from mergesmith.optimizer.search.objective import Objective
from mergesmith.optimizer.search.verdict.limits import check_limits

IDS = tuple(map(str, range(50)))


def entry(name: str, *, sign: int = 1, max_drop: float | None = None) -> TaskEntry:
    return TaskEntry(name, 1.0, "acc", "none", sign, True, max_drop, (Leaf(name, 1.0, "mean"),))


def trial(number: int, name: str = "", **scores: float) -> Trial:
    found = {task: Score(value, 0.01, 50) for task, value in scores.items()}
    return Trial(number, Recipe("passthrough", models=(Source("m"),)), "complete", name=name, scores=found)


def items(**shares: float) -> Scores:
    return Scores("report", {task: ItemScores(IDS, (np.arange(50) < 50 * x) * 1.0) for task, x in shares.items()})


def test_limits_are_compared_with_the_best_parent_of_each_task() -> None:
    entries = (entry("a", max_drop=0.1), entry("b", sign=-1, max_drop=0.1), entry("c"))
    parents = [trial(1, "parent x", a=0.9, b=0.5, c=0.1), trial(2, "parent y", a=0.2, b=0.2, c=0.1)]
    winner = trial(3, a=0.85, b=0.25, c=0.5)
    scores = {1: items(a=0.9, b=0.5, c=0.1), 2: items(a=0.2, b=0.2, c=0.1), 3: items(a=0.86, b=0.4, c=0.5)}
    objective = Objective.fixed_by(entries, [parent.scores for parent in parents])
    first, second = check_limits(objective, winner, parents, scores)
    assert (first.task, first.parent, first.kept) == ("a", "parent x", True)
    assert (second.task, second.parent, second.kept) == ("b", "parent y", False)
    assert first.search == pytest.approx(0.05)
    assert first.report.value == pytest.approx(0.04)
    assert second.report.value == pytest.approx(0.2)  # lower is better: the winner is worse
    assert "Limit of b broken: a drop of 0.1 below parent y is allowed; found +0.2000" in second.sentence
    assert check_limits(objective, winner, parents, {3: scores[3]}) == ()


def test_the_difference_of_one_task_is_that_of_an_objective_with_this_task_alone() -> None:
    entries = (entry("a"), entry("b", sign=-1))
    first, second = items(a=0.8, b=0.4), items(a=0.5, b=0.5)
    both, alone = Objective(entries), Objective(entries[:1])
    found = both.task_difference(entries[0], first, second)
    only = {task: Scores("report", {"a": s.items["a"]}) for task, s in (("f", first), ("s", second))}
    assert found == alone.difference(only["f"], only["s"])
    assert both.task_difference(entries[1], first, second).value == pytest.approx(0.1)
