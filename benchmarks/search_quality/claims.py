"""Whole searches on a problem without anything to gain, with item scores from a matrix instead of models.

The sampler, racing and the verdict are those of a real search. A proposal gets the item scores of the nearest candidate
of the pool. All candidates are levelled: per task, none has more right items than the parents have on average, and all
baselines have exactly as many. The items of each search are drawn anew from the problem's search items, with
replacement. So no candidate is better than any baseline, and every claim of an improvement is false. Losses of gold
answers are not in the matrix: the stage `descent` ends after its first probe.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from mergesmith.evaluators import PARTS, Block, BlockScores, ItemScores, Part, ScoringPlan
from mergesmith.evaluators.tasks.blocks import make_blocks, search_blocks
from mergesmith.merge_ops import Recipe
from mergesmith.optimizer.pools import BlockDone, Event, Failed, Finished, Job
from mergesmith.optimizer.run_folder.file_names import ITEMS
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.samplers.arms import Arms
from mergesmith.optimizer.search.leaderboard import RunPlan
from mergesmith.optimizer.search.study import Study
from mergesmith.optimizer.search.verdict.final_phase import FinalPhase
from mergesmith.optimizer.search.verdict.reach_verdict import reach_verdict
from mergesmith.optimizer.search.watcher import Watcher
from mergesmith.search_spaces import OutsideSpaceError

from .replay import pool
from .truth import Truth

LEVEL_SEED = 0


@dataclass(frozen=True)
class Simulated:
    """One search: whether its verdict claims an improvement, and what it spent of its budget."""

    claims: bool
    proposals: float
    items: float


class Matrix:
    """The levelled item scores of baselines and pool; `values` is leaf -> (candidates, items)."""

    def __init__(self, truth: Truth, pool_size: int) -> None:
        self.space = truth.session.space
        self.arms = Arms(self.space)
        baselines = [recipe for _, recipe in truth.session.baselines]
        names = [name for name, _ in truth.session.baselines]
        recipes = [*baselines, *pool(truth, pool_size)]
        self._rows = {recipe.digest: row for row, recipe in enumerate(recipes)}
        scores = [truth.scores(recipe, "search") for recipe in recipes]
        rng = np.random.default_rng(LEVEL_SEED)
        parents = [row for row, name in enumerate(names) if name.startswith("parent ")]
        self.values = {
            leaf: levelled(np.array([s.items[leaf].values for s in scores]), parents, len(baselines), rng)
            for leaf in scores[0].items
        }
        self._points: dict[Any, list[tuple[int, np.ndarray]]] = {}
        for row, recipe in enumerate(recipes):
            try:
                params = self.space.params(recipe)
            except OutsideSpaceError:
                continue
            arm = self.arms.of(params)
            self._points.setdefault(arm, []).append((row, arm.point(params)))

    def row(self, recipe: Recipe) -> int:
        """Return the row of a recipe, or of the nearest one with the same method and choices."""
        if recipe.digest not in self._rows:
            params = self.space.params(recipe)
            arm = self.arms.of(params)
            known = self._points.get(arm) or [pair for pairs in self._points.values() for pair in pairs]
            near = [(float(((p - arm.point(params)) ** 2).sum()) if arm in self._points else 0.0, r) for r, p in known]
            self._rows[recipe.digest] = min(near)[1]
        return self._rows[recipe.digest]


def levelled(values: np.ndarray, parents: Sequence[int], baselines: int, rng: np.random.Generator) -> np.ndarray:
    """Return 0/1 scores, (candidates, items), of which no candidate has more than the parents on average.

    The first `baselines` rows have exactly as many. The items that change are drawn at random.
    """
    level = round(float(values[parents].sum(axis=1).mean()))
    found = values.copy()
    for row, scores in enumerate(found):
        excess = int(scores.sum()) - level
        if excess > 0:
            scores[rng.choice(np.flatnonzero(scores == 1), excess, replace=False)] = 0
        elif row < baselines:
            scores[rng.choice(np.flatnonzero(scores == 0), -excess, replace=False)] = 1
    return found


class MatrixPool:
    """A pool of one worker that looks scores up."""

    free, worker_counts = 1, (1, 1)

    def __init__(self, matrix: Matrix, blocks: Mapping[Part, Sequence[Block]], seed: int) -> None:
        self.matrix, self.blocks = matrix, blocks
        rng = np.random.default_rng(seed)
        self.items = {  # (part, leaf, document) -> the column that its scores are drawn from
            (part, leaf, document): int(rng.integers(matrix.values[leaf].shape[1]))
            for part in PARTS
            for block in blocks[part]
            for leaf, documents in block.items.items()
            for document in documents
        }
        self._job: Job | None = None
        self._left: deque[Block] = deque()

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        self._job, self._left, self.free = job, deque(self.blocks[job.part]), 0

    def next_event(self) -> Event:
        job = self._job
        assert job is not None, "Should not reach."
        if job.probe is None and self._left:
            block = self._left.popleft()
            row, found = self.matrix.row(job.recipe), {}
            for leaf, documents in block.items.items():
                columns = [self.items[job.part, leaf, document] for document in documents]
                found[leaf] = ItemScores(tuple(map(str, documents)), self.matrix.values[leaf][row, columns])
            return BlockDone(job.number, BlockScores(job.part, block.index, found, 0.0), 0.0)
        self._job, self.free = None, 1
        return Finished(job.number) if job.probe is None else Failed(job.number, "the matrix has no losses")

    def answer(self, number: int, *, go_on: bool) -> None:
        if not go_on:
            self._left.clear()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        raise NotImplementedError

    def use(self, plan: ScoringPlan) -> None: ...
    def close(self) -> None: ...


class Silent(Watcher):
    """A watcher that prints nothing."""


def simulate(truth: Truth, matrix: Matrix, *, trials: int, seed: int) -> Simulated:
    """Run one search with its final phase."""
    config = truth.session.config
    search = config.search.model_copy(update={"sampler": "auto", "trials": trials, "seed": seed})
    config = config.model_copy(update={"search": search})
    items = {part: {leaf: tuple(map(int, ids)) for leaf, ids in truth.items(part).items()} for part in PARTS}
    blocks: dict[Part, Sequence[Block]] = {
        part: make_blocks(part, items[part], (), seed=seed, block_items=None) for part in PARTS
    }
    raced = {leaf.name for entry in truth.entries if entry.raced for leaf in entry.leaves}
    blocks["search"] = search_blocks(items["search"], (), raced, seed=seed, block_items=config.scoring.block_items)
    plan = RunPlan(config, truth.session.space, truth.entries, truth.session.baselines)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ITEMS).mkdir()
        study = Study(plan, RunFolder(Path(folder)), MatrixPool(matrix, blocks, seed), Silent())
        study.run()
        final = FinalPhase(study.leaderboard, study.dispatcher, lambda message: None)
        verdict = reach_verdict(study, final, None, scorers={})
    proposals = sum(not trial.name for trial in study.trials)
    items = sum(trial.items for trial in study.trials)
    return Simulated(
        claims=any(comparison.difference.low > 0 for comparison in verdict.comparisons),
        proposals=proposals / trials,
        items=items / (plan.total * truth.count("search")),
    )


def claims(truth: Truth, *, pool_size: int, runs: int, trials: int, log: Callable[[str], None]) -> str:
    """Simulate the searches; return a table of claims with their interval, and of what was spent."""
    matrix, found = Matrix(truth, pool_size), []
    for seed in range(runs):
        found.append(simulate(truth, matrix, trials=trials, seed=seed))
        if (seed + 1) % 20 == 0:
            log(f"{seed + 1} of {runs} searches, {sum(one.claims for one in found)} claims")
    count = sum(one.claims for one in found)
    interval = binomtest(count, runs).proportion_ci()
    early = np.mean([one.proposals < 0.5 for one in found])
    return (
        "| searches | claim an improvement | 95 % interval | ended before half of the proposals | proposals made "
        "| item scores spent |\n| --: | --: | --: | --: | --: | --: |\n"
        f"| {runs} | {count} ({count / runs:.1%}) | {interval.low:.1%} to {interval.high:.1%} | {early:.0%} "
        f"| {np.mean([one.proposals for one in found]):.0%} | {np.mean([one.items for one in found]):.0%} |"
    )
