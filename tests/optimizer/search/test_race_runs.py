"""Racing and repeated recipes in whole searches on tiny models: what is recorded, told, elected."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from command_line import Command
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tiny_models import write_family
from tiny_run import write_search

from mergesmith.evaluators import ScoringPlan
from mergesmith.optimizer.config import load_config
from mergesmith.optimizer.pools import BlockDone, Event, Job, LocalPool
from mergesmith.optimizer.run_folder.item_matrix import difference
from mergesmith.optimizer.run_folder.lifecycle import create_run
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.run_folder.trial import Trial
from mergesmith.optimizer.search.leaderboard import RunPlan
from mergesmith.optimizer.search.objective import Objective
from mergesmith.optimizer.search.study import Study
from mergesmith.optimizer.search.watcher import Watcher
from mergesmith.optimizer.search.wealth import Wealth
from mergesmith.optimizer.session.session import Session

BASELINES, TRIALS = 10, 14
EAGER = {"alpha": 0.7, "min_items": 16}  # tiny random models are all alike: at 0.1 hardly any would be dropped


def raced(folder: Path, racing: Any, **changes: Any) -> Path:
    search = {"sampler": "random", "trials": TRIALS, "seed": 3, "racing": racing}
    return write_search(folder, **{"search": search, "scoring": {"batch_size": 128, "block_items": 16}, **changes})


def trials_of(run: Path) -> list[Trial]:
    return RunFolder.open(run).trials()


def test_dropped_candidates(run_folder: Path, command: Command) -> None:
    """What is scored of them, what is recorded and told, and that none is elected or raced against."""
    search = raced(run_folder, EAGER)
    outcome = command("search", search)
    assert outcome.code == 0, outcome.err
    run = RunFolder.open(run_folder / "run")
    trials = run.trials()
    dropped = [trial for trial in trials if trial.dropped]
    assert 3 < len(dropped) < TRIALS
    assert all(trial.complete for trial in trials[:BASELINES])  # baselines are never dropped
    for trial in trials[BASELINES:]:
        assert [look.drop for look in trial.looks] == [False] * (len(trial.looks) - 1) + [trial.dropped]
        assert all(trials[look.incumbent].complete for look in trial.looks)
        if trial.dropped:
            assert trial.looks[-1].items == trial.items < trials[0].items
    session = Session(run.config, run.root)
    for trial in dropped[:2]:  # the items are the first ones of the candidate that is scored in full
        first, whole = run.items(trial.number, "search"), session.candidate.evaluate(trial.recipe, "search")
        assert first is not None
        assert trial.items == sum(len(items.ids) for items in first.items.values())
        assert not any(items.values.any() for items in difference(first, whole).items.values())
    told = told_to_optuna(run)
    for trial in dropped:
        check_estimate(trial, trials[trial.looks[-1].incumbent], run)
        record = told[trial.number]
        assert (record.state, record.value) == (optuna.trial.TrialState.COMPLETE, trial.value)
        assert (record.user_attrs["items"], record.user_attrs["dropped"]) == (trial.items, True)
        assert record.user_attrs["stderr"] == pytest.approx(Objective(session.suite.entries).stderr(trial.scores))
    verdict = json.loads((run.path / "verdict.json").read_text())
    elected = {verdict["winner"]["trial"], *(finalist["trial"] for finalist in verdict["finalists"])}
    assert not elected & {trial.number for trial in dropped}
    scored, possible = sum(trial.items for trial in trials[BASELINES:]), TRIALS * trials[0].items
    assert f"{TRIALS} candidates ({len(dropped)} dropped early) took {scored:,} of {possible:,} item" in outcome.out
    table = command("items", run.path).out
    scored_once = sum(trial.repeats is None for trial in trials)
    assert f"{trials[0].items} items, {scored_once} candidates" in table
    assert "estimates" in command("export", run.path, "--trial", dropped[0].number).out


def told_to_optuna(run: RunFolder) -> dict[int, optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(run.path / "study.journal")))
    study = optuna.load_study(study_name=None, storage=storage)
    return {trial.user_attrs["mergesmith_trial"]: trial for trial in study.trials}


def check_estimate(trial: Trial, best: Trial, run: RunFolder) -> None:
    """incumbent's full score + n / (n + 50) * mean weighted paired difference; the two tasks weigh the same."""
    ours, theirs = run.items(trial.number, "search"), run.items(best.number, "search")
    assert ours is not None
    assert theirs is not None
    assert best.value is not None
    n, paired = trial.items, difference(ours, theirs)
    means = [float(items.values.mean()) for items in paired.items.values()]
    assert trial.value == pytest.approx(best.value + n / (n + 50) * sum(means) / 2)


def test_estimates_count_for_limits(run_folder: Path, command: Command) -> None:
    """A limit's excess of a dropped candidate comes from its estimate, and no feasible incumbent means no race."""
    tasks = ("mc", {"name": "gen", "max_drop": 0.0})
    search = {"sampler": "tpe", "trials": 8, "seed": 0, "racing": EAGER}
    assert command("search", raced(run_folder, EAGER, tasks=tasks, search=search)).code == 0
    trials = trials_of(run_folder / "run")
    limit = max(trials[i].scores["gen"].value for i in (1, 2, 3))
    for trial in trials[BASELINES:]:
        for look in trial.looks:
            assert trials[look.incumbent].scores["gen"].value >= limit


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        (("ppl", {"name": "mc", "weight": 0, "max_drop": 0.5}), "'ppl' (word_perplexity)"),
        (({"name": "own", "python": "./objectives.py:own"},), "'own' (a Python objective)"),
    ],
)
def test_racing_is_off_with_its_reason(tasks: tuple[Any, ...], reason: str, run_folder: Path, command: Command) -> None:
    (run_folder / "objectives.py").write_text("def own(model, tokenizer, split):\n    return 0.5\n")
    search = raced(run_folder, EAGER, tasks=tasks)
    outcome = command("search", search, "--trials", 1)
    assert outcome.code == 0, outcome.err
    reason = f"no task with a weight has known bounds per item: {reason}"
    assert f"racing is off, every candidate is scored in full: {reason}" in outcome.out
    assert all(trial.complete and not trial.looks for trial in trials_of(run_folder / "run"))
    assert f"no candidate is dropped early: {reason}" in command("plan", search).out


GUARD = {"name": "ppl", "weight": 0, "max_drop": 30.0, "higher_is_better": False}


def test_a_perplexity_guard_does_not_stop_the_race(run_folder: Path, command: Command) -> None:
    """Dropped candidates are not scored on it; the others are, and none beyond its limit wins or is raced against."""
    tasks = ("mc", "gen", GUARD)
    wide = {"methods": {"task_arithmetic": {"weight": [0.0, 8.0]}}}
    search = raced(run_folder, {"alpha": 0.7, "min_items": 16}, tasks=tasks, space=wide)
    assert command("search", search, "--trials", 5).code == 0
    outcome = command("search", search, "--trials", TRIALS, "--resume")
    assert outcome.code == 0, outcome.err
    assert "racing is off" not in outcome.out
    run = RunFolder.open(run_folder / "run")
    trials = run.trials()
    dropped, complete = ([trial for trial in trials if trial.state == state] for state in ("dropped", "complete"))
    assert len(dropped) > 2
    for trial in trials:
        items = run.items(trial.number, "search")
        assert items is not None
        assert ("ppl" in items.items) == (not trial.dropped) == (trial.scores["ppl"].n > 0)
        weighted = [trial.scores[name].value for name in ("mc", "gen")]
        assert trial.value == pytest.approx(sum(weighted) / 2)
    limit = min(trials[i].scores["ppl"].value for i in (1, 2, 3)) + 30.0
    beyond = {trial.number for trial in complete if trial.scores["ppl"].value > limit}
    assert beyond, [trial.scores["ppl"].value for trial in complete]
    assert not beyond & {look.incumbent for trial in trials for look in trial.looks}
    verdict = json.loads((run.path / "verdict.json").read_text())
    winner = max((t for t in complete if t.number not in beyond), key=lambda t: (t.value or 0.0, -t.number))
    assert winner.number in [finalist["trial"] for finalist in verdict["finalists"]]
    assert not beyond & {finalist["trial"] for finalist in verdict["finalists"]}
    assert verdict["comparisons"][0]["n"] == sum(
        len(_report(run, trial=verdict["winner"]["trial"])[t]) for t in ("mc", "gen")
    )
    again = command("replay", run.path)
    assert again.code == 0, again.out
    whole = command("search", search, "--trials", TRIALS, "--output", run_folder / "whole")
    assert whole.code == 0, whole.err
    keys = [(t.number, t.state, t.value, t.items) for t in trials]
    assert keys == [(t.number, t.state, t.value, t.items) for t in trials_of(run_folder / "whole")]
    assert "those are not scored on ppl" in command("plan", search).out


def _report(run: RunFolder, *, trial: int) -> dict[str, tuple[str, ...]]:
    found = run.items(trial, "report")
    assert found is not None
    return {leaf: items.ids for leaf, items in found.items.items()}


def test_many_baselines_are_raced(tmp_path: Path, command: Command) -> None:
    """Slerps of six models: 15 of 17 usual merges. Base, models and uniform average are scored in full."""
    write_family(tmp_path, "llama", layers=2, models=6)
    models = [f"./{name}" for name in "abcdef"]
    search = {"sampler": "random", "trials": 4, "racing": EAGER, "baselines": ["slerp", "uniform"]}
    assert command("search", write_search(tmp_path, models=models, search=search), "--trials", 2).code == 0
    outcome = command("search", tmp_path / "search.yaml", "--resume")
    assert outcome.code == 0, outcome.err
    run = RunFolder.open(tmp_path / "run")
    trials = {trial.number: trial for trial in run.trials()}
    assert [trial.name for trial in trials.values() if trial.name][:8] == [
        "base",
        *(f"parent {m}" for m in models),
        "uniform",
    ]
    assert all(trials[number].complete and not trials[number].looks for number in range(8))
    slerps = [trial for trial in trials.values() if trial.name.startswith("slerp")]
    assert len(slerps) == 15
    assert any(trial.dropped for trial in slerps)
    for trial in slerps:
        assert trial.dropped == bool(trial.looks and trial.looks[-1].drop)
        assert trial.value is not None
    verdict = json.loads((run.path / "verdict.json").read_text())
    baseline = max((t for t in trials.values() if t.name and t.complete), key=lambda t: (t.value or 0.0, -t.number))
    assert baseline.number in [row["trial"] for row in verdict["report"]]
    assert command("replay", run.path).code == 0


def test_a_recipe_is_scored_once(run_folder: Path, command: Command) -> None:
    """Six recipes in the space and 30 proposals; the second recipe that is scored fails the first time."""
    (run_folder / "objectives.py").write_text(
        "calls = []\n"
        "def fragile(model, tokenizer, split):\n"
        "    calls.append(split)\n"
        "    with open('calls.txt', 'a') as file:\n"
        "        file.write(split + '\\n')\n"
        f"    return float('nan') if len(calls) == {BASELINES + 2} else 0.5\n"
    )
    space = {"methods": {"slerp": {"t": {"choices": [0.2, 0.4]}}}}
    tasks = ("mc", {"name": "fragile", "python": f"{run_folder}/objectives.py:fragile"})
    search = raced(run_folder, False, space=space, tasks=tasks)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run_folder)
        outcome = command("search", search, "--trials", 30)
    assert outcome.code == 0, outcome.err
    trials = trials_of(run_folder / "run")
    (failed,) = [trial for trial in trials if trial.failed]
    assert "nan" in str(failed.error)
    repeated = [trial for trial in trials if trial.repeats is not None]
    fresh = [trial for trial in trials if trial.repeats is None]
    assert len({trial.recipe.digest for trial in fresh if not trial.failed}) == len(fresh) - 1
    assert any(t.recipe.digest == failed.recipe.digest and t.complete for t in fresh)  # scored again
    calls = (run_folder / "calls.txt").read_text().splitlines()
    assert calls.count("search") == len(fresh)
    run = RunFolder.open(run_folder / "run")
    for trial in repeated:
        first = trials[trial.repeats or 0]
        assert trial.name or first.recipe.digest == trial.recipe.digest  # a baseline may be the same weights by name
        assert first.repeats is None
        assert (trial.value, trial.scores, trial.items) == (first.value, first.scores, 0)
        ours, theirs = run.items(trial.number, "search"), run.items(first.number, "search")
        assert ours is not None
        assert theirs is not None
        assert all(np.array_equal(ours.items[leaf].values, theirs.items[leaf].values) for leaf in theirs.items)
    assert f"{sum(not trial.name for trial in repeated)} with a recipe that was scored before" in outcome.out


def test_a_repeat_of_a_dropped_recipe_is_dropped(run_folder: Path, command: Command) -> None:
    space = {"methods": {"slerp": {"t": {"choices": [0.05, 0.95]}}}}
    assert command("search", raced(run_folder, EAGER, space=space, tasks=("mc",)), "--trials", 16).code == 0
    trials = trials_of(run_folder / "run")
    repeated = [trial for trial in trials if trial.repeats is not None and trial.dropped]
    assert repeated
    journal = JournalStorage(JournalFileBackend(str(run_folder / "run" / "study.journal")))
    told = {t.user_attrs["mergesmith_trial"]: t for t in optuna.load_study(study_name=None, storage=journal).trials}
    for trial in repeated:
        assert told[trial.number].user_attrs["items"] == trials[trial.repeats or 0].items > 0
    assert all(trials[trial.repeats or 0].dropped and not trial.looks for trial in repeated)


def test_infinite_weights_are_a_failed_trial(run_folder: Path, command: Command) -> None:
    """Merges that overflow give logits that are not numbers: failed trials that say so, and a finished run."""
    space = {"methods": {"task_arithmetic": {"weight": {"choices": [0.5, 1e38]}}}}
    outcome = command("search", raced(run_folder, EAGER, space=space, tasks=("mc",)), "--trials", 6)
    assert outcome.code == 0, outcome.err
    failed = [trial for trial in trials_of(run_folder / "run") if trial.failed]
    assert failed
    assert all("nan" in str(trial.error) or "not finite" in str(trial.error) for trial in failed), failed[0].error


@dataclass
class TwoWorkers:
    """A pool of two local workers; the one with the earlier candidate scores two blocks while the other scores one."""

    workers: list[LocalPool]
    jobs: dict[int, LocalPool] = field(default_factory=dict)
    _turn: int = 0

    @property
    def free(self) -> int:
        return sum(worker.free for worker in self.workers)

    @property
    def worker_counts(self) -> tuple[int, int]:
        return len(self.workers), len(self.workers)

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        worker = next(worker for worker in self.workers if worker.free)
        worker.submit(job)
        self.jobs[job.number] = worker

    def next_event(self) -> Event:
        numbers = sorted(self.jobs)
        self._turn += 1
        number = numbers[-1] if self._turn % 3 == 0 else numbers[0]
        event = self.jobs[number].next_event()
        if not isinstance(event, BlockDone):
            del self.jobs[number]
        return event

    def answer(self, number: int, *, go_on: bool) -> None:
        self.jobs[number].answer(number, go_on=go_on)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.workers[0].call(function, *args)

    def use(self, plan: ScoringPlan) -> None:
        for worker in self.workers:
            worker.use(plan)

    def close(self) -> None: ...


class Silent(Watcher):
    """A watcher that prints nothing."""


def test_a_new_incumbent_is_met_in_the_middle_of_a_race(run_folder: Path) -> None:
    """Two workers at a time: each decision is made against the best candidate at that moment."""
    search = {"sampler": "random", "trials": 10, "seed": 1, "racing": {"alpha": 0.3, "min_items": 16}}
    wide = {"methods": {"task_arithmetic": {"weight": [0.0, 8.0]}}}  # tiny random models differ only far from the base
    config = load_config(raced(run_folder, EAGER, search=search, space=wide, tasks=("mc",)))
    run = create_run(run_folder / "run", config, run_folder)
    sessions = [Session(config, run_folder), Session(config, run_folder)]
    plan = RunPlan(config, sessions[0].space, sessions[0].suite.entries, sessions[0].baselines)
    study = Study(plan, run, TwoWorkers([LocalPool(session) for session in sessions]), Silent())
    study.run()
    run.close()
    trials = {trial.number: trial for trial in study.trials}
    met = {n: list(dict.fromkeys(look.incumbent for look in trial.looks)) for n, trial in trials.items()}
    assert any(len(numbers) > 1 for numbers in met.values()), met
    for number, trial in trials.items():
        values = [trials[n].value or 0.0 for n in met[number]]
        assert values == sorted(values)  # incumbents only get better
        wealth = Wealth(1.0)
        scores = {n: values_of(run, n) for n in (number, *met[number])}
        looks = {look.items: look for look in trial.looks}  # none before there is an incumbent
        ids: list[str] = []
        for block in sessions[0].suite.blocks("search"):
            before, ids = len(ids), [*ids, *map(str, block.items["mc"])]
            if (look := looks.get(len(ids))) is None:
                continue
            x = np.array([scores[number][item] - scores[look.incumbent][item] for item in ids])
            left = len(scores[look.incumbent]) - before
            needed = (len(scores[look.incumbent]) * look.least_gain - x[:before].sum()) / left
            assert look.log_wealth == pytest.approx(wealth.bet(x[before:], needed=needed), abs=1e-3)


def values_of(run: RunFolder, number: int) -> dict[str, float]:
    found = run.items(number, "search")
    assert found is not None
    return dict(zip(found.items["mc"].ids, found.items["mc"].values.tolist(), strict=True))
