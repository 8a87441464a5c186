"""`mergesmith export`: any trial's recipe, from a run's folder alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mergesmith.errors import UserError

from .best import absolute_names
from .rundir import BEST, RunDir
from .trial import scores_document


def exported_recipe(path: Path, number: int | None) -> str:
    """The YAML of a trial's recipe, or of the run's best.yaml when no number is given.

    Raises:
        UserError: there is no run, no such trial, or no winner yet.
    """
    rundir = RunDir.open(path)
    if number is None:
        if not (path / BEST).is_file():
            raise UserError(f"{path} has no {BEST} yet: the run is not finished; name a trial with --trial")
        return (path / BEST).read_text(encoding="utf-8")
    trials = {trial.number: trial for trial in rundir.trials()}
    if number not in trials:
        raise UserError(f"{path} has no trial {number}; it has {len(trials)} trials, up to {max(trials, default=0)}")
    trial = trials[number]
    facts = {
        "found_by": {"run": str(path.resolve()), "trial": number, "name": trial.label},
        "scores": {"search": {"objective": trial.value, "tasks": scores_document(trial.scores)}},
    }
    return replace(trial.recipe.renamed(absolute_names(trial.recipe, (rundir.root,))), facts=facts).to_yaml()
