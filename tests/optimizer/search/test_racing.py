"""Racing: the wealth, the weights, the estimate, the decisions; and the simulation that says what they are worth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.racing import EVEN, UNEVEN, WORSE, Tasks, fixed, searches
from mergesmith.errors import UserError
from mergesmith.evaluators import BlockScores, ItemScores, Leaf, Score, Scores, TaskEntry, entry_score
from mergesmith.merge_ops import Recipe, Source
from mergesmith.optimizer.config import RacingSection, RunConfig, dump_config, parse_config
from mergesmith.optimizer.run_folder.item_matrix import ItemMatrix, difference, shared
from mergesmith.optimizer.run_folder.trial import Look, Trial
from mergesmith.optimizer.search.objective import Objective, scores_of
from mergesmith.optimizer.search.racing import Incumbent, Race, why_off
from mergesmith.optimizer.search.wealth import BETS, LARGEST_LOSS, SHARES, Wealth

RECIPE = Recipe("passthrough", models=(Source("m"),))


def entry(name: str, *leaves: Leaf, weight: float = 1.0, sign: int = 1, **changes: Any) -> TaskEntry:
    fields: dict[str, Any] = {"metric": "acc", "filter": "none", "bounded": True, "max_drop": None, **changes}
    return TaskEntry(name, weight, sign=sign, leaves=leaves or (Leaf(name, 1.0, "mean"),), **fields)


ENTRIES = (
    entry("a", weight=2.0),
    entry("group", Leaf("g1", 0.7, "mean"), Leaf("g2", 0.2, "mean"), Leaf("absent", 0.1, "mean")),
    entry("error", sign=-1, weight=0.5),
)
SIZES = {"a": 30, "g1": 50, "g2": 11, "error": 9}


def drawn(seed: int, sizes: dict[str, int] = SIZES) -> Scores:
    """Bounded scores, not only 0 and 1."""
    rng = np.random.default_rng(seed)
    return Scores(
        "search", {n: ItemScores(tuple(map(str, range(size))), rng.random(size)) for n, size in sizes.items()}
    )


def incumbent(scores: Scores, number: int = 0, entries: tuple[TaskEntry, ...] = ENTRIES) -> Incumbent:
    return Incumbent(Trial(number, RECIPE, "complete", scores=scores_of(entries, scores)), scores, entries)


def block(scores: Scores, start: int, stop: int) -> BlockScores:
    """Items `start` to `stop` of every leaf."""
    cut = {n: ItemScores(items.ids[start:stop], items.values[start:stop]) for n, items in scores.items.items()}
    return BlockScores("search", 0, cut, 0.0)


def test_the_mean_weighted_difference_is_the_difference_of_the_objectives() -> None:
    ours, theirs = drawn(1), drawn(2)
    x = incumbent(theirs).weighted(block(ours, 0, 1000))
    objective = Objective(ENTRIES)
    values = [objective.value(scores_of(ENTRIES, scores)) for scores in (ours, theirs)]
    assert len(x) == sum(SIZES.values())
    assert x.mean() == pytest.approx(values[0] - values[1])


def test_wealth_is_the_mixture_of_products_in_any_order() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 40)
    wealth = Wealth(1.0)
    assert wealth.bet(np.empty(0)) == pytest.approx(0.0)  # it begins with 1
    wealth.bet(x[:15])
    expected = math.log(sum(v * float(np.prod(1 - b * x)) for b, v in zip(BETS, SHARES, strict=True)))
    assert wealth.bet(x[15:]) == pytest.approx(expected)
    other = Wealth(1.0)
    assert other.bet(np.flip(x)) == pytest.approx(expected)


def test_bets_are_on_the_distance_to_what_the_claim_needs() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 40)
    for needed in (-0.5, 0.3):
        bets = [min(bet, LARGEST_LOSS / (1.0 - needed)) for bet in BETS]
        expected = sum(v * float(np.prod(1 - b * (x - needed))) for b, v in zip(bets, SHARES, strict=True))
        assert Wealth(1.0).bet(x, needed=needed) == pytest.approx(math.log(expected))


@pytest.mark.parametrize("needed", [1.0, 5.0])
def test_a_claim_that_no_item_can_meet_only_gains_wealth(needed: float) -> None:
    wealth = Wealth(1.0)
    assert 0 <= wealth.bet(np.ones(10), needed=needed) < wealth.bet(np.zeros(10), needed=needed) < math.inf


@pytest.mark.parametrize("largest", [0.3, 1.0, 7.5])
def test_no_item_takes_all_and_long_races_stay_finite(largest: float) -> None:
    for x in (-largest, largest):
        found = Wealth(largest).bet(np.full(200_000, x))
        assert math.isfinite(found)
        assert (found > 0) == (x < 0)


def test_estimate_is_the_incumbents_score_plus_the_shrunk_difference() -> None:
    ours, best = drawn(1), incumbent(drawn(2), entries=ENTRIES[:1])
    few = block(ours, 0, 20)
    estimate = best.estimate(Scores("search", {"a": few.items["a"]}))["a"]
    d = few.items["a"].values - best.scores.items["a"].values[:20]
    assert estimate.value == pytest.approx(best.trial.scores["a"].value + 20 / 70 * d.mean())
    assert estimate.stderr == pytest.approx(20 / 70 * d.std(ddof=1) / math.sqrt(20))
    assert estimate.n == 20


def test_estimate_of_an_entry_without_items_is_the_incumbents() -> None:
    best = incumbent(drawn(2))
    estimate = best.estimate(Scores("search", {"a": drawn(1).items["a"]}))["error"]
    assert (estimate.value, estimate.n) == (best.trial.scores["error"].value, 0)
    assert math.isnan(estimate.stderr)


def test_shared_items_of_any_two_candidates() -> None:
    first = Scores("search", {"a": ItemScores(("3", "1", "7"), np.array([1.0, 0.5, 0.0])), "b": drawn(0).items["a"]})
    second = Scores("search", {"a": ItemScores(("1", "2", "3"), np.array([0.5, 1.0, 0.0]))})
    one, other = shared(first, second)
    assert one.items["a"].ids == other.items["a"].ids == ("3", "1")
    assert difference(first, second).items["a"].values.tolist() == [1.0, 0.0]
    assert set(one.items) == {"a"}


def test_the_item_matrix_says_which_items_tell_candidates_apart() -> None:
    """Five candidates; the fourth was dropped before the last item."""
    nan = math.nan
    values = np.array([[1, 0, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1], [1, 0, 0, nan], [1, 1, 1, 0]])
    complete = np.array([True, True, True, False, True])
    matrix = ItemMatrix((0, 1, 2, 4, 7), ("a", "a", "a", "b"), ("3", "1", "7", "0"), values, complete)
    assert matrix.alike().tolist() == [True, False, False, False]
    telling = matrix.telling()
    whole = np.delete(values, 3, axis=0)
    assert math.isnan(telling[0])
    for item in (1, 2, 3):
        others = np.delete(whole, item, axis=1).sum(axis=1)
        assert telling[item] == pytest.approx(np.corrcoef(whole[:, item], others)[0, 1])


def test_an_item_without_a_value_does_not_make_a_candidate_incomplete() -> None:
    values = np.array([[1, 0, math.nan], [0, 0, 1], [1, 1, 0], [0, 1, 0]])
    matrix = ItemMatrix((0, 1, 2, 3), ("a",) * 3, ("0", "1", "2"), values, np.array([True, True, True, True]))
    telling = matrix.telling()
    assert math.isnan(telling[2])
    assert telling[0] == pytest.approx(np.corrcoef(values[:, 0], values[:, 1])[0, 1])


def worse(number: int = 0) -> tuple[Scores, Incumbent]:
    """A hopeless candidate and its incumbent, 100 items in one task."""
    ids = tuple(map(str, range(100)))
    only = (entry("a"),)
    ours = Scores("search", {"a": ItemScores(ids, np.zeros(100))})
    return ours, incumbent(Scores("search", {"a": ItemScores(ids, np.ones(100))}), number, only)


def test_none_is_dropped_on_few_items_nor_after_the_last() -> None:
    ours, best = worse()
    race = Race(RacingSection(min_items=32), search_per_select=3.0)
    assert race.goes_on(block(ours, 0, 31), best)
    assert not race.goes_on(block(ours, 31, 40), best)
    assert [(look.items, look.drop) for look in race.looks] == [(31, False), (40, True)]
    assert race.lost_to is best
    race = Race(RacingSection(min_items=100), search_per_select=3.0)
    assert race.goes_on(block(ours, 0, 60), best)
    assert race.goes_on(block(ours, 60, 100), best)
    assert race.lost_to is None


def test_a_new_incumbent_is_met_from_the_next_block_on_and_the_wealth_goes_on() -> None:
    ours, first = worse(number=3)
    second = worse(number=8)[1]
    race = Race(RacingSection(min_items=90), search_per_select=3.0)
    assert race.goes_on(block(ours, 0, 10), None)  # there is no incumbent yet
    for start, best in ((10, first), (20, second), (30, second)):
        assert race.goes_on(block(ours, start, start + 10), best)
    assert [(look.items, look.incumbent) for look in race.looks] == [(20, 3), (30, 8), (40, 8)]
    wealth = Wealth(1.0)
    expected = [wealth.bet(np.full(10, -1.0), needed=n / (100 - n)) for n in (10, 20, 30)]  # x is -1 on n items so far
    assert [look.log_wealth for look in race.looks] == pytest.approx(expected, abs=1e-6)


def test_the_least_gain_is_the_noise_of_a_difference_on_the_select_items() -> None:
    """Of 100 items 25 are select items; so far x has the mean 0 and the standard deviation 1."""
    _, best = worse()
    ours = Scores("search", {"a": ItemScores(best.scores.items["a"].ids, np.tile([0.0, 2.0], 50))})
    race = Race(RacingSection(least_gain=2.0), search_per_select=4.0)
    assert race.goes_on(block(ours, 0, 10), best)
    assert race.goes_on(block(ours, 10, 20), best)
    assert [look.least_gain for look in race.looks] == pytest.approx([0.0, 2 / math.sqrt(25)])


@pytest.mark.parametrize("gaps", [(-0.03, -0.03, -0.03), (0.09, -0.15, -0.03)])
@pytest.mark.parametrize("rule", [RacingSection(), WORSE])
def test_candidates_that_gain_enough_are_rarely_dropped(gaps: tuple[float, ...], rule: RacingSection) -> None:
    """At most alpha of those whose full score gains the least gain or more; gaps are how much worse each task is."""
    for sizes in (EVEN, UNEVEN, {"a": 20, "b": 20, "c": 20}):
        found = fixed(Tasks.of(sizes), dict(zip("abc", gaps, strict=True)), 100, rule=rule)
        assert found.lost_enough <= 0.1


def test_poor_candidates_are_dropped_soon() -> None:
    """The goals of benchmarks/racing.py, on fewer candidates; 500 items, 15 % discordant, alpha 0.1."""
    even = Tasks.of(EVEN)
    assert fixed(even, dict.fromkeys(EVEN, 0.0), 100, rule=WORSE).dropped <= 0.15
    assert fixed(even, dict.fromkeys(EVEN, 0.0), 100).items <= 0.85 * 500
    assert fixed(even, dict.fromkeys(EVEN, 0.06), 100).items <= 180
    assert fixed(even, dict.fromkeys(EVEN, 0.12), 100).items <= 80
    few = {"a": 39, "b": 39, "c": 38}
    assert fixed(Tasks.of(few), dict.fromkeys(few, 0.2), 100).items <= 0.35 * 116


def test_the_best_full_score_is_not_lost_to_the_best_so_far() -> None:
    found = searches(Tasks.of(EVEN), 0.03, 4)
    assert np.mean([one.items for one in found]) < 0.45
    assert np.mean([one.loss for one in found]) < 0.005


def test_when_racing_is_off() -> None:
    rule = RacingSection()
    assert why_off(rule, ENTRIES) is None
    assert why_off(RacingSection(rule="off"), ENTRIES) == "search.racing is off"
    assert why_off(rule, (*ENTRIES, PERPLEXITY)) is None
    alone = (PERPLEXITY, entry("own", bounded=False, python=True), entry("limit", weight=0.0, max_drop=0.1))
    reason = "no task with a weight has known bounds per item: 'ppl' (word_perplexity), 'own' (a Python objective)"
    assert why_off(rule, alone) == reason


PERPLEXITY = entry("ppl", Leaf("ppl", 1.0, "perplexity"), bounded=False, metric="word_perplexity", sign=-1)
GUARDED = (entry("a"), PERPLEXITY, entry("guard", weight=0.0, max_drop=0.1))


def guarded() -> tuple[Scores, Incumbent]:
    """A hopeless candidate with a better perplexity, and its incumbent; 100 items each."""
    ours, best = worse()
    ids = ours.items["a"].ids
    rest = {"ppl": ItemScores(ids, np.full(100, -2.0)), "guard": ItemScores(ids, np.full(100, 0.5))}
    better = rest | {"ppl": ItemScores(ids, np.full(100, -1.0))}
    scores = Scores("search", {**best.scores.items, **rest})
    return Scores("search", {**ours.items, **better}), incumbent(scores, entries=GUARDED)


def test_only_raced_tasks_decide_and_what_is_left_of_others_is_saved() -> None:
    """After the last raced item a candidate is still dropped, because the other tasks have not been scored."""
    ours, best = guarded()
    raced, others = ({leaf: ours.items[leaf] for leaf in leaves} for leaves in (["a"], ["ppl", "guard"]))
    race = Race(RacingSection(min_items=100), search_per_select=3.0)
    assert race.goes_on(block(Scores("search", raced), 0, 60), best)
    assert not race.goes_on(block(Scores("search", raced), 60, 100), best)
    race = Race(RacingSection(min_items=1000), search_per_select=3.0)
    for candidate in (raced, others):
        assert race.goes_on(block(Scores("search", candidate), 0, 100), best)
    assert (race.items, [look.items for look in race.looks]) == (300, [100])


def test_a_dropped_candidate_has_no_score_on_tasks_that_were_not_scored() -> None:
    """Its value has the incumbent's perplexity, and no limit is judged on items that it lacks."""
    ours, best = guarded()
    parents = {"a": 1.0, "ppl": 4.0, "guard": 0.9}
    objective = Objective(GUARDED, {"ppl": 4.0}, parents)
    seen = Scores("search", {"a": block(ours, 0, 50).items["a"]})
    estimate = best.estimate(seen)
    assert [(name, score.n) for name, score in estimate.items()] == [("a", 50), ("ppl", 0), ("guard", 0)]
    assert objective.value(estimate) == pytest.approx((0.5 - math.exp(2) / 4) / 2)  # a: 1 - 50 / 100
    assert objective.violations(estimate) == {}
    assert objective.violations(best.estimate(ours)).keys() == {"guard"}
    unseen = best.differences(seen)
    assert unseen["ppl"].value == unseen["guard"].value == 0.0
    assert unseen["ppl"].stderr == pytest.approx(0.1 * math.exp(2))
    assert best.differences(ours)["ppl"].value == pytest.approx(math.e - math.exp(2))


def test_a_task_of_weight_0_is_a_limit_alone() -> None:
    objective = Objective(GUARDED, {"ppl": 4.0}, {"a": 1.0, "ppl": 4.0, "guard": 0.9})
    scores = {"a": Score(0.6, 0.3, 10), "ppl": Score(2.0, 1.6, 10), "guard": Score(0.5, math.nan, 10)}
    assert objective.value(scores) == pytest.approx((0.6 - 0.5) / 2)
    assert objective.stderr(scores) == pytest.approx(math.hypot(0.3, 0.4) / 2)
    assert objective.violations(scores) == pytest.approx({"guard": 0.3})
    assert not objective.feasible(scores)
    ours, best = guarded()
    assert objective.difference(ours, best.scores).n == 200  # the items of a and ppl


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([{"name": "t", "weight": 0}, "u"], "weight 0 it has no effect without max_drop"),
        ([{"name": "t", "weight": 0, "max_drop": 0.1}], "at least one task must have a weight above 0"),
    ],
)
def test_weights_of_0_without_an_effect(tasks: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config({"base_model": "b", "models": ["x"], "tasks": tasks}, where="search.yaml")


def config(search: dict[str, Any]) -> RunConfig:
    return parse_config({"base_model": "b", "models": ["x"], "tasks": ["t"], "search": search}, where="search.yaml")


def test_racing_in_search_yaml() -> None:
    assert config({}).search.racing == RacingSection(rule="betting", alpha=0.1, min_items=16, least_gain=1.0)
    assert config({"racing": True}).search.racing == RacingSection()
    off = config({"racing": False})  # as YAML reads `racing: off`
    assert off.search.racing.rule == "off" == config({"racing": "off"}).search.racing.rule
    assert config({"racing": {"rule": False}}).search.racing.rule == "off"
    assert "rule: 'off'" in dump_config(off)
    assert off.difference(config({})) == ["search.racing.rule"]


@pytest.mark.parametrize(
    ("racing", "message"),
    [
        ({"alfa": 0.1}, "search.racing.alfa: unknown key 'alfa'. Did you mean 'alpha'"),
        ({"alpha": 1.5}, "search.racing.alpha: must be below 1, but is 1.5"),
        ({"min_items": 0}, "search.racing.min_items"),
        ({"least_gain": -1}, "search.racing.least_gain"),
        ({"rule": "bets"}, "search.racing.rule"),
        (0.1, "search.racing"),
    ],
)
def test_racing_faults(racing: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config({"racing": racing})


def test_a_dropped_trials_line_holds_its_decisions() -> None:
    trial = Trial(
        12,
        RECIPE,
        "dropped",
        value=0.25,
        scores={"a": Score(0.25, 0.01, 40)},
        items=40,
        answers={"a": {"truncated": 0.5}},
        smaller_batches=True,
        looks=(Look(32, 4, 1.5, False), Look(40, 7, 2.75, True, 0.02)),
        repeats=3,
    )
    assert Trial.from_line(trial.to_line()) == trial
    assert not trial.complete


def test_a_constant_difference_has_no_error() -> None:
    """A whole block of equal differences is no reason for NaN."""
    ours, best = worse()
    estimate = best.estimate(Scores("search", block(ours, 0, 32).items))["a"]
    assert estimate.value == pytest.approx(1 - 32 / 82)
    assert (estimate.stderr, estimate.n) == (0.0, 32)
    assert entry_score(best.entries[0], difference(ours, best.scores)).stderr == 0.0
