"""A trial as a row of a table: flat, with a column per task and per dimension."""

from __future__ import annotations

from typing import Any

from .trial import Trial


def trial_row(trial: Trial, known_value: float | None = None) -> dict[str, Any]:
    """Return the row of a trial; `known_value` is its objective if its record has none.

    Columns: the fields of the trial, `score_TASK` and `stderr_TASK` per task, `params_NAME` per dimension of the search
    space. Values and scores of a dropped candidate are estimates.
    """
    row: dict[str, Any] = {
        "number": trial.number,
        "label": trial.label,
        "baseline": trial.name or None,
        "method": trial.recipe.merge_method,
        "state": trial.state,
        "stage": trial.stage or None,
        "value": trial.value if trial.value is not None else known_value,
        "estimate": trial.estimate,
        "stderr": trial.stderr,
        "items": trial.items,
        "repeats": trial.repeats,
        "error": trial.error,
        "merge_seconds": trial.merge_seconds,
        "score_seconds": trial.score_seconds,
        "recipe_digest": trial.recipe.digest,
    }
    for task, score in trial.scores.items():
        row |= {f"score_{task}": score.value, f"stderr_{task}": score.stderr}
    return row | {f"params_{name}": value for name, value in (trial.params or {}).items()}
