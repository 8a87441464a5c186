"""`mergesmith replay`: repeats a run's trials in the recorded order and checks that the results agree.

With several workers, the order in which trials finish depends on their speed, and with it the sampler's history and the
incumbents that candidates are compared with. All of this is recorded, so that one process can repeat the run of many.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from ..config import RunConfig
from ..pools import LocalPool
from ..pools.replay import ReplayPool, Schedule
from ..run_folder.file_names import INGREDIENTS, SCORING, is_run
from ..run_folder.lifecycle import check_ingredients, create_run, resume_run
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial
from ..search.dispatcher import MAX_WORKERS_LOST
from ..search.leaderboard import RunPlan
from ..search.racing import Incumbent
from ..search.scorer_choice import settle_scorers
from ..search.study import Study
from ..session.load_sources import load_sources
from ..session.options import Options
from ..session.session import Session
from ..terminal.progress import Report

SHOWN = 10  # most differences that are printed
COMPARED = ("params", "recipe_digest", "state", "value", "scores", "items", "repeats", "looks")


def run_replay(path: Path, output: Path | None, *, options: Options, console: Console) -> bool:
    """Repeat a run's trials into a new folder and return whether all results are the same.

    Raises:
        UserError: there is no such run, its sources or tasks have changed, or the folder holds something else.
    """
    original = RunFolder.open(path)
    trials, root = original.trials(), original.root
    config = _alone(original.config, trials, output or path.with_name(f"{path.name}-replay"))
    folder = root / config.output
    report = Report(console)
    open_run = resume_run if is_run(folder) else create_run
    run_folder = open_run(folder, config, root, announce=report.announce)
    try:
        if (path / SCORING).is_file():
            shutil.copyfile(path / SCORING, folder / SCORING)
        shutil.copyfile(path / INGREDIENTS, folder / INGREDIENTS)
        _repeat(trials, _schedule(trials, original.events()), run_folder, Session(config, root, options), report)
        again = run_folder.trials()
    finally:
        run_folder.close()
    differences = _differences(trials, again)
    for line in differences[:SHOWN]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    more = f", and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    outcome = f"{len(differences)} differences{more}" if differences else "proposals, scores and decisions are the same"
    console.print(f"{len(again)} trials repeated in {folder}: {outcome}", highlight=False, markup=False, soft_wrap=True)
    return not differences


def _alone(config: RunConfig, trials: Sequence[Trial], output: Path) -> RunConfig:
    """Return the configuration for one local worker, with a budget that covers every recorded trial.

    It keeps the workers' thread count and device type, since floating-point sums depend on them.
    """
    workers = config.workers
    if workers.pool == "ray":
        workers = workers.of_one(workers.gpus_per_worker)
    workers = workers.model_copy(update={"pool": "local", "address": None, "count": None})
    budget = max((trial.number for trial in trials), default=0) + 1  # at least as many as there were candidates
    search = config.search.model_copy(update={"trials": budget, "time_limit": None, "item_scores": None})
    return config.model_copy(update={"workers": workers, "search": search, "output": str(output.resolve())})


def _repeat(
    trials: Sequence[Trial], schedule: Schedule, run_folder: RunFolder, session: Session, report: Report
) -> None:
    check_ingredients(run_folder.path, session.ingredient_digests())
    load_sources(session, report.console)
    last = max((trial.number for trial in trials), default=-1)
    plan = RunPlan(session.config, session.space, session.suite.entries, session.baselines, last, session.weights_key)
    pool = ReplayPool(LocalPool(session), schedule, lambda: {trial.number for trial in study.trials})
    settle_scorers(pool, run_folder, session, report.console)
    compared = {trial.number: {look.items: look.incumbent for look in trial.looks} for trial in trials}

    @cache
    def incumbent(number: int) -> Incumbent | None:
        return study.leaderboard.as_incumbent(next(trial for trial in study.trials if trial.number == number))

    def recorded_incumbent(number: int, items: int) -> Incumbent | None:
        known = compared.get(number, {}).get(items)
        return None if known is None else incumbent(known)

    study = Study(plan, run_folder, pool, report, choose_incumbent=recorded_incumbent)
    with report:
        study.run()


def _schedule(trials: Sequence[Trial], events: Sequence[dict[str, Any]]) -> Schedule:
    after = {event["number"]: event["after"] for event in events if event["event"] == "asked"}
    after |= {trial.number: 0 if trial.name else trial.after for trial in trials}
    # A recipe that had already cost too many workers under another trial number was given up without an attempt.
    costs = Counter(event["recipe"] for event in events if event["event"] == "lost" and event["counts"])
    given_up = {
        trial.number: trial.error or ""
        for trial in trials
        if trial.failed and not trial.worker and (trial.lost or costs[trial.recipe.digest] >= MAX_WORKERS_LOST)
    }
    return Schedule(
        after=after,
        finished=[trial.number for trial in trials],
        given_up=given_up,
    )


def _differences(recorded: Sequence[Trial], again: Sequence[Trial]) -> list[str]:
    repeated = {trial.number: trial for trial in again}
    differences: list[str] = []
    for trial in recorded:
        other = repeated.get(trial.number)
        if other is None:
            differences.append(f"{trial.label}: was not repeated")
            continue
        document, repeated_document = json.loads(trial.to_line()), json.loads(other.to_line())
        for name in COMPARED:
            before, now = document[name], repeated_document[name]
            if before != now:
                differences.append(f"{trial.label}: {name} was {_short(before)} and is {_short(now)}")
    return differences


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
