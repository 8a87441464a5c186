"""Everything that the report shows of a run, read once from its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mergesmith.errors import UserError

from ...evaluators import Part, Scores, TaskEntry
from ...search_spaces import BASE, parent_name
from ..config import RunConfig
from ..run_folder.answer_file import ReportAnswers, read_answers
from ..run_folder.file_names import BEST, ENVIRONMENT, SANITY, SCORING, VERDICT
from ..run_folder.lock import driver
from ..run_folder.run_folder import RunFolder
from ..run_folder.task_file import read_tasks
from ..run_folder.trial import Trial
from ..search.objective import Objective

SCHEMA_VERSION = 1
Document = Mapping[str, Any]


@dataclass(frozen=True)
class RunFacts:
    """The records of a run.

    Attributes:
        folder: the run's folder, from which the sections read scores per item.
        config: its search.yaml.
        trials: the finished trials in order, with values by the final objective.
        events: the lines of events.jsonl.
        entries: how the tasks are scored; empty if the run has not recorded that.
        objective: None without `entries` or without a parent that was scored.
        verdict: the content of verdict.json; None before the verdict.
        recipe: the content of best.yaml; None before the verdict.
        environment, scoring, sanity: the content of these files; {} if absent.
        running: whether a process drives the run; None if that cannot be determined.
        answers: the texts of the report items; None if they are not to be shown.
    """

    folder: RunFolder
    config: RunConfig
    trials: Sequence[Trial]
    events: Sequence[Document]
    entries: tuple[TaskEntry, ...]
    objective: Objective | None
    verdict: Document | None
    recipe: str | None
    environment: Document
    scoring: Document
    sanity: Document
    running: bool | None
    answers: ReportAnswers | None

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.path.resolve().name

    @cached_property
    def by_number(self) -> Mapping[int, Trial]:
        """The finished trials by number."""
        return {trial.number: trial for trial in self.trials}

    @cached_property
    def proposals(self) -> Sequence[Trial]:
        """The finished trials that the sampler proposed, probes included."""
        return [trial for trial in self.trials if not trial.name]

    @cached_property
    def candidates(self) -> Sequence[Trial]:
        """The proposals that have a score, or failed."""
        return [trial for trial in self.proposals if not trial.probe]

    @cached_property
    def baselines(self) -> Sequence[Trial]:
        """The baselines that were scored, parents and base included."""
        return [trial for trial in self.trials if trial.name and trial.complete and trial.value is not None]

    @cached_property
    def parents(self) -> Sequence[Trial]:
        """The fine-tunes that were scored, in the order of the configuration."""
        names = [parent_name(model) for model in self.config.models]
        found = {trial.name: trial for trial in self.baselines}
        return [found[name] for name in names if name in found]

    @cached_property
    def feasible(self) -> Sequence[Trial]:
        """The trials that were scored in full and keep within all limits, best first."""
        found = [t for t in self.trials if t.complete and t.value is not None and self.keeps_limits(t)]
        return sorted(found, key=lambda trial: (-(trial.value or 0.0), trial.number))

    @property
    def winner(self) -> Trial | None:
        """The winner, or the best trial so far; None without one."""
        if self.verdict is not None:
            return self.by_number.get(self.verdict["winner"]["trial"])
        return self.feasible[0] if self.feasible else None

    @property
    def best_parent(self) -> Trial | None:
        """The best parent by its search score; None if none was scored."""
        return max(self.parents, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    def keeps_limits(self, trial: Trial) -> bool:
        """Return whether a trial keeps within every `max_drop` on the search items."""
        return self.objective is None or self.objective.feasible(trial.scores)

    def items(self, trial: Trial, part: Part) -> Scores | None:
        """Return a trial's scores per item; None if it was not scored on the part, or the file cannot be read."""
        number = trial.number if trial.repeats is None or part != "search" else trial.repeats
        try:
            return self.folder.items(number, part)
        except UserError:  # one damaged file is no reason to show nothing
            return None


def gather(path: Path, *, with_texts: bool = False) -> RunFacts:
    """Read the records of a run, finished, running or stopped.

    Args:
        path: the run's folder.
        with_texts: read prompts and answers too.

    Raises:
        UserError: the folder holds no run, or one of its files is damaged or of another schema version.
    """
    folder = RunFolder.open(path)
    running = driver(path).running  # before the files: if the driver has ended, they are complete
    config, trials, entries = folder.config, folder.trials(), read_tasks(path)
    objective = _objective(entries, config, trials)
    if objective is not None:
        trials = [replace(t, value=objective.value(t.scores)) if t.complete else t for t in trials]
    best = path / BEST
    return RunFacts(
        folder=folder,
        config=config,
        trials=trials,
        events=folder.events(),
        entries=entries,
        objective=objective,
        verdict=_document(path / VERDICT) or None,
        recipe=best.read_text(encoding="utf-8") if best.is_file() else None,
        environment=_document(path / ENVIRONMENT),
        scoring=_document(path / SCORING),
        sanity=_document(path / SANITY),
        running=running,
        answers=read_answers(path) if with_texts else None,
    )


def _objective(entries: tuple[TaskEntry, ...], config: RunConfig, trials: Sequence[Trial]) -> Objective | None:
    names = [parent_name(model) for model in config.models]
    parents = [trial.scores for trial in trials if trial.name in names and trial.complete]
    waiting = {BASE, *names} - {trial.name for trial in trials}
    return Objective.fixed_by(entries, parents) if entries and parents and not waiting else None


def _document(path: Path) -> Document:
    """Return the content of a JSON file; {} if there is none."""
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, but this program reads {SCHEMA_VERSION}: use the version of "
            f"mergesmith that wrote the run"
        )
    return document


def finite(value: float | None) -> bool:
    """Return whether a value is a finite number."""
    return value is not None and math.isfinite(value)
