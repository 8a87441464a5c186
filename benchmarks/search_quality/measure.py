"""From a finished run's folder to the true scores of its incumbents."""

from __future__ import annotations

import json
from pathlib import Path

from mergesmith.merge_ops import Recipe
from mergesmith.optimizer.run_folder.file_names import VERDICT
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.search.leaderboard import Leaderboard, RunPlan

from .records import Outcome
from .truth import Truth, recipe_digest


def measure(path: Path, truth: Truth, *, arm: str, seed: int, seconds: float) -> Outcome:
    """Replay the leaderboard of a finished run; its incumbents get their true scores.

    The item scores that a trial's line counts are what it cost; one with a known recipe costs none. Before the last
    baseline there is no incumbent.
    """
    run = RunFolder.open(path)
    config = run.config
    plan = RunPlan(config, truth.session.space, truth.entries, truth.session.baselines)
    leaderboard = Leaderboard(plan, run)
    steps: list[tuple[int, float]] = []
    items, best = 0, None
    for trial in run.trials():
        items += trial.items
        leaderboard.add(trial)
        if leaderboard.best is not None and leaderboard.best is not best:
            best = leaderboard.best
            steps.append((items, truth.value(best.recipe)))
    assert best is not None, "Should not reach."
    verdict = json.loads((path / VERDICT).read_text(encoding="utf-8"))
    winner = next(trial for trial in run.trials() if trial.number == verdict["winner"]["trial"])
    return Outcome(
        problem=truth.folder.name,
        arm=arm,
        trials=config.search.trials,
        seed=seed,
        steps=tuple(steps),
        recipe=recipe_digest(best.recipe),
        items=items,
        winner=truth.value(winner.recipe, ["report"]),
        claims=any((comparison["low"] or 0.0) > 0 for comparison in verdict["comparisons"]),
        seconds=round(seconds, 1),
    )


def baseline_recipes(truth: Truth) -> list[Recipe]:
    """The recipes of the search's baselines."""
    return [recipe for _, recipe in truth.session.baselines]
