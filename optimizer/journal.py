"""The run as an Optuna journal, for optuna-dashboard. Derived from trials.jsonl: rebuilt on start, never read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from ..search_spaces import SearchSpace
from .rundir import writing
from .samplers.tpe import distributions
from .trial import Trial

STUDY = "mergesmith"


class Journal:
    """An Optuna study on disk that follows the run."""

    def __init__(self, path: Path, space: SearchSpace) -> None:
        """Start the file anew; a lock that a killed run left would block for half a minute and goes too."""
        self.path, self.space = path, space
        for stale in path.parent.glob(f"{path.name}*"):
            stale.unlink()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with writing(path):
            storage = JournalStorage(JournalFileBackend(str(path)))
            self.study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize")

    def add(self, trial: Trial, violations: Mapping[str, float], stderr: float) -> None:
        """Append a finished trial; what Optuna has no place for stands among its user attributes.

        A dropped candidate is complete there, with its estimate: Optuna's samplers learn nothing from pruned trials.
        """
        attributes = {"name": trial.label, "method": trial.recipe.merge_method, "mergesmith_trial": trial.number}
        attributes |= {name: score.value for name, score in trial.scores.items()}
        if not trial.failed:
            attributes |= {"items": trial.items, "dropped": trial.dropped}
            attributes["stderr"] = stderr if math.isfinite(stderr) else None
        if trial.error is not None:
            attributes["error"] = trial.error
        params = dict(trial.params or {})
        with writing(self.path):
            self.study.add_trial(
                create_trial(
                    state=TrialState.FAIL if trial.failed else TrialState.COMPLETE,
                    value=trial.value,
                    params=params,
                    distributions=distributions(self.space, params) if params else {},
                    constraints=dict(violations) or None,
                    user_attrs=attributes,
                )
            )
