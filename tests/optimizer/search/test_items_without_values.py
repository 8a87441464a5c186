"""Items on which the metric has no value: races, paired differences, and a whole search with its verification."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import Command
from tiny_run import write_search

from mergesmith.evaluators import BlockScores, ItemScores, Leaf, Scores, TaskEntry
from mergesmith.merge_ops import Recipe, Source
from mergesmith.optimizer.config import RacingSection
from mergesmith.optimizer.run_folder.item_matrix import difference
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.run_folder.trial import Look, Trial
from mergesmith.optimizer.search.objective import Objective, leaf_without_values, paired_difference, scores_of
from mergesmith.optimizer.search.racing import Incumbent, Race

ENTRY = TaskEntry("a", 1.0, "acc", "none", 1, True, None, (Leaf("a", 1.0, "mean"),))
N = 100
IDS = tuple(map(str, range(N)))


def scores(values: np.ndarray, ids: tuple[str, ...] = IDS) -> Scores:
    return Scores("search", {"a": ItemScores(ids, values)})


def without(values: np.ndarray, *items: int) -> np.ndarray:
    values = values.copy()
    values[list(items)] = np.nan
    return values


def incumbent(found: Scores) -> Incumbent:
    recipe = Recipe("passthrough", models=(Source("m"),))
    return Incumbent(Trial(0, recipe, "complete", scores=scores_of((ENTRY,), found)), found, (ENTRY,))


def race(ours: Scores, best: Incumbent) -> Race:
    found = Race(RacingSection(min_items=32), search_per_select=3.0)
    items = ours.items["a"]
    for start in range(0, len(items.ids), 20):
        cut = ItemScores(items.ids[start : start + 20], items.values[start : start + 20])
        if not found.goes_on(BlockScores("search", start, {"a": cut}, 0.0), best):
            break
    return found


def test_paired_differences_are_over_the_items_that_both_have() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.random(N), rng.random(N)
    ours, theirs = scores(without(one, 0, 5)), scores(without(two, 5, 9))
    both = [i for i in range(N) if i not in (0, 5, 9)]
    ids = tuple(IDS[i] for i in both)
    assert difference(ours, theirs).items["a"].ids == ids
    objective = Objective((ENTRY,))
    assert objective.difference(ours, theirs) == objective.difference(scores(one[both], ids), scores(two[both], ids))
    assert objective.difference(ours, theirs).n == 97
    wanted = paired_difference(ENTRY, scores(one[both], ids), scores(two[both], ids))
    assert paired_difference(ENTRY, ours, theirs) == wanted
    assert scores_of((ENTRY,), ours)["a"].value == pytest.approx(np.delete(one, [0, 5]).mean())


def test_two_candidates_without_a_common_item_have_no_difference() -> None:
    ours, theirs = scores(without(np.ones(N), *range(50))), scores(without(np.ones(N), *range(50, N)))
    found = Objective((ENTRY,)).difference(ours, theirs)
    assert math.isnan(found.value)
    assert not found.distinguishable
    assert found.to_document() == {"value": None, "low": None, "high": None, "n": 0}
    assert math.isnan(paired_difference(ENTRY, ours, theirs).value)
    assert leaf_without_values(ours) is None
    assert leaf_without_values(scores(np.full(N, np.nan))) == "a"


def test_items_without_a_value_for_either_are_no_items_of_the_race() -> None:
    rng = np.random.default_rng(1)
    worse, better = rng.random(N) * 0.5, 0.5 + rng.random(N) * 0.5
    missing = [*range(0, N, 4), 99]
    ours, best = scores(without(worse, *missing)), incumbent(scores(without(better, *missing)))
    assert best.items == N - len(missing)
    left = [i for i in range(N) if i not in missing]
    x = best.weighted(BlockScores("search", 0, ours.items, 0.0))
    np.testing.assert_array_equal(x, worse[left] - better[left])
    found = race(ours, best)
    assert found.lost_to is best
    compact = incumbent(scores(better[left], tuple(IDS[i] for i in left)))
    assert compact.items == best.items
    # The same items in the same blocks give the same wealth, whether the others are there or not.
    looks = compact_looks(worse, left, compact)
    assert [look.log_wealth for look in found.looks] == [look.log_wealth for look in looks]


def compact_looks(values: np.ndarray, left: list[int], best: Incumbent) -> list[Look]:
    """Race the items `left` alone, in the blocks of `race`."""
    found = Race(RacingSection(min_items=24), search_per_select=3.0)
    for start in range(0, N, 20):
        ids = [i for i in left if start <= i < start + 20]
        cut = ItemScores(tuple(IDS[i] for i in ids), values[ids])
        if not found.goes_on(BlockScores("search", start, {"a": cut}, 0.0), best):
            break
    return found.looks


@pytest.mark.parametrize(("ours", "theirs"), [((3,), ()), ((), (3,))])
def test_a_candidate_with_a_value_where_the_incumbent_has_none_is_scored_in_full(
    ours: tuple[int, ...], theirs: tuple[int, ...]
) -> None:
    """Then the mean of the differences is not the difference of the means."""
    hopeless, best = scores(without(np.zeros(N), *ours)), incumbent(scores(without(np.ones(N), *theirs)))
    found = race(hopeless, best)
    assert (found.lost_to, found.items, found.looks) == (None, N, [])
    assert race(scores(np.zeros(N)), incumbent(scores(np.ones(N)))).lost_to is not None


SCORING = """
def process(doc, results):
    found = {"exact_match": float(results[0] == doc["answer"]), "length": len(results[0])}
    if BY_ANSWER and results[0][:1] in "abcd" or doc["question"].startswith("1"):
        del found["exact_match"]
    return found
"""


def write(folder: Path, *, by_answer: bool) -> Path:
    """A search whose task `gen` leaves its metric out for documents, and for some answers."""
    search = write_search(folder)
    path = folder / "tasks" / "gen.yaml"
    metric = {"aggregation": "mean", "higher_is_better": True}
    task = {
        **yaml.safe_load(path.read_text()),
        "metric_list": [{"metric": "exact_match", **metric}, {"metric": "length", **metric}],
        "process_results": "!function scoring.process",
    }
    text = yaml.safe_dump(task, sort_keys=False).replace("'!function scoring.process'", "!function 'scoring.process'")
    path.write_text(text)
    (folder / "tasks" / "scoring.py").write_text(SCORING.replace("BY_ANSWER", str(by_answer)))
    return search


@pytest.mark.parametrize("by_answer", [False, True])
def test_a_search_and_its_verification(by_answer: bool, run_folder: Path, command: Command) -> None:
    search = write(run_folder, by_answer=by_answer)
    outcome = command("search", search)
    assert outcome.code == 0, outcome.err
    run = RunFolder.open(run_folder / "run")
    counts = set()
    for trial in run.trials():
        items = run.items(trial.number, "search")
        assert items is not None
        found = items.items["gen"]
        assert 0 < found.known.sum() < len(found.ids)
        if trial.complete:
            counts.add(int(found.known.sum()))
            assert trial.scores["gen"].n == found.known.sum()
            assert trial.scores["gen"].value == pytest.approx(found.values[found.known].mean())
    assert (len(counts) > 1) == by_answer
    verdict = json.loads((run_folder / "run" / "verdict.json").read_text())
    assert verdict
    assert command("verify", run_folder / "run" / "best.yaml").code == 0
    assert command("items", run_folder / "run").code == 0
    assert command("status", run_folder / "run").code == 0


def test_a_model_without_any_value_fails(run_folder: Path, command: Command) -> None:
    search = write(run_folder, by_answer=False)
    (run_folder / "tasks" / "scoring.py").write_text("def process(doc, results):\n    return {'length': 1.0}\n")
    outcome = command("search", search)
    assert outcome.code != 0
    assert "'gen': none of its documents has a value of the metric" in outcome.err + outcome.out
