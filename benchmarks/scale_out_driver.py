"""What one trial costs the driver, and a run of many trials for others to resume."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from scale_out_run import TASKS, InstantPool, Meter, Quiet, Spent, write_search, write_tasks

from mergesmith.optimizer.config import load_config
from mergesmith.optimizer.run_folder.lifecycle import check_ingredients, create_run
from mergesmith.optimizer.run_folder.trial import Trial
from mergesmith.optimizer.samplers import make_sampler
from mergesmith.optimizer.search.leaderboard import RunPlan
from mergesmith.optimizer.search.scorer_choice import settle_scorers
from mergesmith.optimizer.search.study import Study
from mergesmith.optimizer.session.session import Session

PENDING = 3  # candidates that are being scored when another one is asked for
WINDOW = 20  # trials of which the median is taken


@dataclass(frozen=True)
class Cost:
    """What the driver spent from one trial's end to the next one's: in all, on the sampler's ask, and on blocks."""

    trial: Trial
    total: Spent
    ask: Spent
    blocks: Spent


@dataclass(frozen=True)
class Typical:
    """Medians over the trials from one number on that were scored in full, in seconds.

    Attributes:
        cpu: processor time in all.
        ask: of it, the sampler's.
        block: of it, between a block and its answer.
        wall: seconds on the clock in all.
    """

    cpu: float
    ask: float
    block: float
    wall: float

    @property
    def rest(self) -> float:
        """All but the ask."""
        return self.cpu - self.ask

    @classmethod
    def at(cls, costs: Sequence[Cost], number: int, blocks: int) -> Typical:
        """Of `WINDOW` trials with so many blocks each."""
        full = [cost for cost in costs if cost.trial.number >= number and cost.trial.complete][:WINDOW]
        return cls(
            statistics.median(cost.total.cpu for cost in full),
            statistics.median(cost.ask.cpu for cost in full),
            statistics.median(cost.blocks.cpu for cost in full) / blocks,
            statistics.median(cost.total.wall for cost in full),
        )


def search_with_instant_scores(folder: Path, trials: int, *, proposals: str = "tpe") -> list[Cost]:
    """A search of so many trials, all real but for the scores; what each trial cost the driver.

    The run says `sampler: tpe` whoever makes the proposals: random ones are made faster.
    """
    search = write_search(folder, write_tasks(folder / "tasks"), search={"sampler": "tpe", "trials": trials, "seed": 0})
    config = load_config(search)
    session = Session(config, folder)
    pool, ask, costs = InstantPool(session, PENDING + 1), Meter(), []
    run_folder = create_run(folder / "run", config, folder)
    before = [Spent.now(), Spent(), Spent()]

    def finished(trial: Trial) -> None:
        now = [Spent.now() - pool.meter.total, ask.total, pool.blocks.total]
        costs.append(Cost(trial, *(one - other for one, other in zip(now, before, strict=True))))
        before[:] = now

    try:
        check_ingredients(run_folder.path, session.ingredient_digests())
        settle_scorers(pool, run_folder, session, Console(quiet=True))
        plan = RunPlan(config, session.space, session.suite.entries, session.baselines)
        sampler = make_sampler(proposals, plan.space, config.search.seed)
        sampler.ask = ask.around(sampler.ask)
        Study(plan, run_folder, pool, Quiet(finished), sampler=sampler).run()
    finally:
        run_folder.close()
    return costs


def describe(folder: Path) -> tuple[int, int, int]:
    """(numbers to search, search items, blocks) of a run that is written."""
    config = load_config(folder / "search.yaml")
    session = Session(config, folder)
    blocks = session.suite.blocks("search")
    dimensions = session.space.dimensions(session.space.methods[0])
    assert len(session.suite.entries) == len(TASKS), "Should not reach."
    return len(dimensions), sum(map(len, blocks)), len(blocks)
