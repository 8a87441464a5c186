"""What racing costs and saves: simulated at the shipped block size, and on the demo.

    python benchmarks/racing.py                 the simulation, one to two minutes
    python benchmarks/racing.py --demo FOLDER   also the demo's search with racing on and off, a few minutes more

Simulated are three tasks with 0/1 items. A candidate and its incumbent differ on 15 % of the items ("discordant"; on as
many as the gap where that is more): on (15 % + gap) / 2 the candidate is worse, on (15 % - gap) / 2 better.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from mergesmith.evaluators import Block, BlockScores, ItemScores, Leaf, Score, Scores, ScoringConfig, TaskEntry
from mergesmith.evaluators.tasks.blocks import make_blocks
from mergesmith.merge_ops import Recipe, Source, read_recipe
from mergesmith.optimizer.commands.inputs.overrides import Overrides
from mergesmith.optimizer.commands.search import run_search
from mergesmith.optimizer.config import RacingSection
from mergesmith.optimizer.demo import make_demo
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.run_folder.trial import Trial
from mergesmith.optimizer.search.objective import Objective, scores_of
from mergesmith.optimizer.search.racing import Incumbent, Race
from mergesmith.optimizer.session.options import Options
from mergesmith.optimizer.session.session import Session

DISCORDANT = 0.15
EVEN = {"a": 167, "b": 167, "c": 166}
UNEVEN = {"a": 350, "b": 110, "c": 40}
SIZES = (60, 116, 200, 500)
RULE = RacingSection()
WORSE = RacingSection(least_gain=0)  # drops only candidates that are worse
SEARCH_PER_SELECT = 3.0  # the default split
Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Tasks:
    """Three tasks of equal weight: their entries and blocks."""

    sizes: Mapping[str, int]
    entries: tuple[TaskEntry, ...]
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, sizes: Mapping[str, int], seed: int = 0) -> Tasks:
        """Tasks with so many items, in the blocks that a search would have."""
        entries = tuple(
            TaskEntry(name, 1.0, "acc", "none", 1, True, None, (Leaf(name, 1.0, "mean"),)) for name in sizes
        )
        items = {name: tuple(range(size)) for name, size in sizes.items()}
        return cls(sizes, entries, make_blocks("search", items, (), seed=seed, block_items=ScoringConfig().block_items))

    def incumbent(self, values: Values, number: int = 0) -> Incumbent:
        """A candidate with these item scores, as one to race against."""
        items = {name: ItemScores(tuple(map(str, range(len(v)))), v) for name, v in values.items()}
        scores = {name: Score(float(v.mean()), 0.0, len(v)) for name, v in values.items()}
        trial = Trial(number, Recipe("passthrough", models=(Source("m"),)), "complete", scores=scores)
        return Incumbent(trial, Scores("search", items), self.entries)

    def race(self, values: Values, incumbent: Incumbent, rule: RacingSection = RULE) -> Race:
        """The race of a candidate with these item scores."""
        race = Race(rule, search_per_select=SEARCH_PER_SELECT)
        for block in self.blocks:
            found = {
                leaf: ItemScores(tuple(map(str, ids)), values[leaf][list(ids)]) for leaf, ids in block.items.items()
            }
            if not race.goes_on(BlockScores("search", block.index, found, 0.0), incumbent):
                break
        return race


@dataclass(frozen=True)
class Fixed:
    """The races of candidates against fixed incumbents.

    Attributes:
        dropped: the share that is dropped.
        items: the mean number of items that are scored.
        lost: the share that is dropped though its full score gains on the incumbent's.
        lost_enough: the share that is dropped of those whose full score gains enough, by the noise of all items.
    """

    dropped: float
    items: float
    lost: float
    lost_enough: float


def fixed(tasks: Tasks, gaps: Mapping[str, float], reps: int, *, rule: RacingSection = RULE, seed: int = 0) -> Fixed:
    """Race candidates that are worse by `gaps`, task by task, than an incumbent.

    The incumbent is drawn anew for each: nothing but chance relates it to its items.
    """
    rng = np.random.default_rng(seed)
    outcomes = []
    for _ in range(reps):
        mine, theirs = {}, {}
        for name, gap in gaps.items():
            u, either = rng.random(tasks.sizes[name]), rng.integers(0, 2, tasks.sizes[name])
            discordant = max(DISCORDANT, abs(gap))
            worse, better = u < (discordant + gap) / 2, u > 1 - (discordant - gap) / 2
            theirs[name] = np.select([worse, better], [1, 0], either).astype(float)
            mine[name] = np.select([worse, better], [0, 1], either).astype(float)
        race = tasks.race(mine, tasks.incumbent(theirs), rule)
        differences = [mine[name] - theirs[name] for name in gaps]
        gain = float(np.mean([d.mean() for d in differences]))
        variance = float(np.mean([SEARCH_PER_SELECT * d.var() / len(d) for d in differences])) / len(gaps)
        enough = gain > 0 and gain >= rule.least_gain * variance**0.5
        outcomes.append((race.lost_to is not None, race.items, race.lost_to is not None and gain > 0, enough))
    dropped, items, lost, enough = np.array(outcomes, dtype=float).T
    return Fixed(dropped.mean(), items.mean(), lost.mean(), float((dropped * enough).sum() / max(1.0, enough.sum())))


@dataclass(frozen=True)
class Search:
    """One simulated search: shares of candidates and items, and how far the best full score fell behind."""

    dropped: float
    items: float
    loss: float
    best_dropped: bool


def best_so_far(tasks: Tasks, skills: np.ndarray, rng: np.random.Generator, rule: RacingSection = RULE) -> Search:
    """Race candidates one after another against the best so far; `skills` (T,) are their true scores, up to a constant.

    30 % of the items are coins to every candidate, so that any two equal ones differ on 15 %; the rest have an answer
    that all give alike. A better candidate's coins are loaded.
    """
    coins = {name: rng.random(size) < 2 * DISCORDANT for name, size in tasks.sizes.items()}
    known = {name: (rng.random(size) < 0.6).astype(float) for name, size in tasks.sizes.items()}

    def draw(skill: float) -> Values:
        chance = 0.5 + skill / (2 * DISCORDANT)
        return {
            name: np.where(coins[name], rng.random(size) < chance, known[name]).astype(float)
            for name, size in tasks.sizes.items()
        }

    candidates = [draw(skill) for skill in skills]
    full = [float(np.mean([values[name].mean() for name in tasks.sizes])) for values in candidates]
    best, incumbent = 0, tasks.incumbent(candidates[0])
    outcomes = []
    for i, values in enumerate(candidates[1:], start=1):
        race = tasks.race(values, incumbent, rule)
        outcomes.append((race.lost_to is not None, race.items))
        if not outcomes[-1][0] and full[i] > full[best]:
            best, incumbent = i, tasks.incumbent(values, i)
    total = sum(tasks.sizes.values())
    truth = int(np.argmax(full))
    return Search(
        dropped=float(np.mean([dropped for dropped, _ in outcomes])),
        items=float(np.mean([items for _, items in outcomes])) / total,
        loss=full[truth] - full[best],
        best_dropped=truth > 0 and outcomes[truth - 1][0],
    )


def searches(tasks: Tasks, spread: float, reps: int, *, rule: RacingSection = RULE, seed: int = 0) -> list[Search]:
    """Searches over 100 candidates whose true scores are normal with this standard deviation."""
    rng = np.random.default_rng(seed)
    return [best_so_far(tasks, rng.normal(0.0, spread, 100).clip(-0.14, 0.14), rng, rule) for _ in range(reps)]


def simulation(reps: int) -> None:
    """Print the tables of the simulation."""
    print(f"alpha {RULE.alpha}, {reps} candidates a row\n")
    for size in SIZES:
        tasks = Tasks.of({name: len(range(i, size, 3)) for i, name in enumerate("abc")})
        ends = np.cumsum([len(block) for block in tasks.blocks])
        print(f"{size} items, looks after {', '.join(map(str, ends[:-1]))}\n")
        _print_gaps(tasks, reps)
    even, uneven = Tasks.of(EVEN), Tasks.of(UNEVEN)
    crossed = {"a": 0.1, "b": -0.1, "c": 0.0}
    print("| candidate, 500 items | dropped | items scored | dropped of those that gain enough |")
    print("| --- | --: | --: | --: |")
    for name, tasks, gaps in (
        ("equal, tasks of 350, 110 and 40 items", uneven, dict.fromkeys(EVEN, 0.0)),
        ("equal overall: 10 points worse, 10 better, 0", even, crossed),
        ("3 points better: 13 better, 7 worse, 3 better", even, {"a": -0.13, "b": 0.07, "c": -0.03}),
        ("12 points worse, tasks of 350, 110 and 40 items", uneven, dict.fromkeys(EVEN, 0.12)),
    ):
        found = fixed(tasks, gaps, reps)
        print(f"| {name} | {found.dropped:.1%} | {found.items / 500:.0%} | {found.lost_enough:.1%} |")
    print("\nAgainst the best so far, 100 candidates a search of 500 items:\n")
    print("| true scores | least_gain | dropped | items scored | best full score missed | behind it on average |")
    print("| --- | --: | --: | --: | --: | --: |")
    for name, spread in (("all equal", 0.0), ("standard deviation 3 points", 0.03), ("6 points", 0.06)):
        for rule in (WORSE, RULE):
            rows = searches(even, spread, max(1, reps // 50), rule=rule)
            means = [np.mean([getattr(one, key) for one in rows]) for key in ("dropped", "items", "best_dropped")]
            behind = 100 * float(np.mean([one.loss for one in rows]))
            shares = " | ".join(f"{mean:.0%}" for mean in means)
            print(f"| {name} | {rule.least_gain:g} | {shares} | {behind:.2f} points |")


def _print_gaps(tasks: Tasks, reps: int) -> None:
    size = sum(tasks.sizes.values())
    print("| candidate | dropped | items scored | dropped, `least_gain: 0` | items scored, `least_gain: 0` |")
    print("| --- | --: | --: | --: | --: |")
    rows = [(f"{points} points worse", points) for points in (20, 10, 5, 2)]
    for name, points in [*rows, ("equal", 0), ("5 points better", -5), ("10 points better", -10)]:
        cells = []
        for rule in (RULE, WORSE):
            found = fixed(tasks, dict.fromkeys(tasks.sizes, points / 100), reps, rule=rule)
            cells += [f"{found.dropped:.1%}", f"{found.items / size:.0%}"]
        print(f"| {name} | {' | '.join(cells)} |")
    print()


@dataclass(frozen=True)
class Searched:
    """A finished search of the demo: its candidates, and its winner's scores on the report items."""

    run: RunFolder
    candidates: list[Trial]
    report: Scores

    @property
    def cost(self) -> tuple[float, int]:
        """CPU seconds of scoring, items scored."""
        return sum(trial.score_seconds for trial in self.candidates), sum(trial.items for trial in self.candidates)

    @classmethod
    def of(cls, search: Path, racing: str, seed: int) -> Searched:
        """Search with racing on or off, unless it was done before."""
        text = search.read_text(encoding="utf-8").replace("  seed: 0\n", f"  seed: {seed}\n  racing: {racing}\n")
        config = search.with_name(f"racing_{racing}_{seed}.yaml")
        config.write_text(text)
        run = RunFolder(search.parent / "runs" / config.stem)
        run_search(
            config,
            resume=(run.path / "environment.json").is_file(),
            overrides=Overrides(output=run.path),
            options=Options(),
            console=Console(quiet=True),
        )
        report = run.items(read_recipe(run.path / "best.yaml").facts["found_by"]["trial"], "report")
        assert report is not None, "Should not reach."
        return cls(run, [trial for trial in run.trials() if not trial.name], report)


def demo(folder: Path, seeds: int) -> None:
    """Print the table of the demo's search with racing on and off."""
    search = make_demo(folder, log=print)
    print("\n| seed | racing | dropped | items scored | CPU seconds of scoring | winner on the report items |")
    print("| --: | --- | --: | --: | --: | --: |")
    told = []
    for seed in range(seeds):
        on, off = Searched.of(search, "on", seed), Searched.of(search, "off", seed)
        objective = Objective(Session(on.run.config, on.run.root).suite.entries)
        for name, one in (("on", on), ("off", off)):
            dropped, (seconds, items) = sum(trial.dropped for trial in one.candidates), one.cost
            value = objective.value(scores_of(objective.entries, one.report))
            print(f"| {seed} | {name} | {dropped} of {len(one.candidates)} | {items:,} | {seconds:.1f} | {value:.3f} |")
        seconds, items = off.cost[0] / on.cost[0], off.cost[1] / on.cost[1]
        d = objective.difference(on.report, off.report)
        interval = f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        told.append(f"Seed {seed}: {seconds:.2f}x less time, {items:.2f}x fewer items; winner on less off {interval}")
    print("\nGoal: at least 2x less scoring time, the winner not worse beyond its interval.")
    print("\n".join(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=4000, help="simulated candidates per row")
    parser.add_argument("--demo", type=Path, help="a folder for the demo; made, or used again")
    parser.add_argument("--seeds", type=int, default=1, help="searches of the demo")
    arguments = parser.parse_args()
    time.perf_counter = time.process_time  # CPU seconds, which other work on the machine does not stretch
    simulation(arguments.reps)
    if arguments.demo is not None:
        demo(arguments.demo, arguments.seeds)


if __name__ == "__main__":
    main()
