"""Random search without merging anything: drawn from one pool of candidates whose items are all scored."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mergesmith.evaluators import Block, BlockScores, ItemScores, Scores
from mergesmith.evaluators.tasks.blocks import search_blocks
from mergesmith.merge_ops import Recipe
from mergesmith.optimizer.config import RacingSection
from mergesmith.optimizer.run_folder.trial import Trial
from mergesmith.optimizer.samplers.random import RandomSampler
from mergesmith.optimizer.search.objective import scores_of
from mergesmith.optimizer.search.racing import Incumbent, Race, why_off

from .measure import baseline_recipes
from .records import Outcome
from .truth import Truth, recipe_digest

POOL_SEED = 715


def pool(truth: Truth, size: int) -> list[Recipe]:
    """The first `size` proposals of random search in the problem's space."""
    sampler = RandomSampler(truth.session.space, POOL_SEED)
    return [truth.session.space.recipe(sampler.ask(i, ()).params) for i in range(size)]


def score_pool(truth: Truth, size: int, log: Callable[[str], None]) -> None:
    """Score the pool on the search items, unless that was done before."""
    for number, recipe in enumerate(pool(truth, size), start=1):
        truth.scores(recipe, "search")
        if number % 100 == 0:
            log(f"{truth.folder.name}: {number} of {size} random candidates scored")


def replay_random(truth: Truth, *, pool_size: int, trials: int, seed: int, racing: RacingSection, arm: str) -> Outcome:
    """Baselines, then `trials` candidates drawn from the pool without replacement, each raced by `racing`."""
    baselines = baseline_recipes(truth)
    drawn = random.Random(f"draw {seed}").sample(pool(truth, pool_size), trials)
    replay = _Replay(truth, _blocks(truth, seed), racing)
    incumbents: list[tuple[int, Recipe]] = []
    for number, recipe in enumerate([*baselines, *drawn], start=1):
        replay.take(number, recipe, raced=number > len(baselines))
        best = replay.best
        if number >= len(baselines) and best is not None and (not incumbents or incumbents[-1][1] is not best):
            incumbents.append((replay.items, best))  # a search has no incumbent before its last baseline
    return Outcome(
        problem=truth.folder.name,
        arm=arm,
        trials=trials,
        seed=seed,
        steps=tuple((items, truth.value(recipe)) for items, recipe in incumbents),
        recipe=recipe_digest(incumbents[-1][1]),
        items=replay.items,
    )


class _Replay:
    """The race of candidates one after another against the best so far, as a search with one worker has it."""

    def __init__(self, truth: Truth, blocks: Sequence[Block], rule: RacingSection) -> None:
        self.truth, self.blocks, self.rule = truth, blocks, rule
        self.objective = truth.objective_on(("search",))
        split = truth.session.config.split
        self.search_per_select = split.search / split.select
        self.items = 0
        self._incumbent: Incumbent | None = None
        self._value = float("-inf")

    @property
    def best(self) -> Recipe | None:
        """The best candidate so far."""
        return None if self._incumbent is None else self._incumbent.trial.recipe

    def take(self, number: int, recipe: Recipe, *, raced: bool) -> None:
        """Score a candidate block by block, or in full where it is not raced."""
        scores = self.truth.scores(recipe, "search")
        if raced and why_off(self.rule, self.truth.entries) is None:
            race = Race(self.rule, search_per_select=self.search_per_select)
            for block in self.blocks:
                if not race.goes_on(_part_of(scores, block), self._incumbent):
                    break
            self.items += race.items
            if race.lost_to is not None:
                return
        else:
            self.items += self.truth.count("search")
        entries = self.truth.entries
        named = scores_of(entries, scores)
        value = self.objective.value(named)
        if value > self._value and self.objective.feasible(named):
            self._value = value
            self._incumbent = Incumbent(Trial(number, recipe, "complete", scores=named), scores, entries)


def _blocks(truth: Truth, seed: int) -> tuple[Block, ...]:
    items = {leaf: tuple(map(int, ids)) for leaf, ids in truth.items("search").items()}
    raced = {leaf.name for entry in truth.entries if entry.raced for leaf in entry.leaves}
    return search_blocks(items, (), raced, seed=seed, block_items=truth.session.config.scoring.block_items)


def _part_of(scores: Scores, block: Block) -> BlockScores:
    found = {}
    for leaf, ids in block.items.items():
        whole = scores.items[leaf]
        place = {item: i for i, item in enumerate(whole.ids)}
        names = tuple(map(str, ids))
        found[leaf] = ItemScores(names, whole.values[[place[name] for name in names]])
    return BlockScores("search", block.index, found, 0.0)
