"""What experiment trackers have in common: which facts of a trial and of a run are logged, under which names."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from ...run_folder.trial import Trial
from ..run import Run

Facts = dict[str, float | int | str]


class Tracker(ABC):
    """A callback that also receives the end of the search."""

    @abstractmethod
    def __call__(self, run: Run, trial: Trial) -> None:
        """Log a finished trial."""

    @abstractmethod
    def finish(self, run: Run) -> None:
        """Log the verdict."""


def trial_metrics(trial: Trial) -> Facts:
    """Return the numbers of a trial: `value`, `items`, `score/TASK`, seconds; unknown ones left out.

    The value of a dropped candidate is an estimate, called `estimated_value`.
    """
    metrics: dict[str, float | None] = {"estimated_value" if trial.dropped else "value": trial.value}
    metrics |= {f"score/{task}": score.value for task, score in trial.scores.items()}
    metrics |= {"items": trial.items, "seconds/merge": trial.merge_seconds, "seconds/score": trial.score_seconds}
    metrics |= {"dropped": int(trial.dropped), "failed": int(trial.failed)}
    return {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}


def run_settings(run: Run) -> Facts:
    """Return the settings of a run that identify it."""
    config = run.config
    return {
        "run": run.path.name,
        "base_model": config.base_model,
        "models": ", ".join(config.models),
        "tasks": ", ".join(task.name for task in config.tasks),
        "methods": ", ".join(config.space.methods),
        "sampler": config.search.sampler,
        "trials": config.search.trials,
        "seed": config.search.seed,
    }


def verdict_metrics(run: Run) -> Facts:
    """Return the winner and, per row of the result, the objective on the report items."""
    verdict = run.verdict
    if verdict is None:
        return {}
    facts: Facts = {"winner_trial": verdict["winner"]["trial"], "winner": verdict["winner"]["name"]}
    for row in verdict["report"]:
        name = row["role"] if row["role"] != "parent" else row["name"].replace("parent ", "parent/")
        facts[f"report/{name}"] = row["objective"]
    return facts


def verdict_text(run: Run) -> str:
    """Return the sentences of the verdict, one per line."""
    verdict = run.verdict
    return "" if verdict is None else "\n".join(comparison["sentence"] for comparison in verdict["comparisons"])
