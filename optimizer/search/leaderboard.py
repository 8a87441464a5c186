"""The finished trials of a run, with the best one, the objective and the recipes that have been scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from ...evaluators import Score, Scores, TaskEntry
from ...merge_ops import Recipe
from ...search_spaces import BASE, UNIFORM, SearchSpace, parent_name
from ..config import RunConfig
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial, items_spent
from ..samplers import Observation
from ..stop_signals import RunFailedError
from .candidate import PendingCandidate
from .objective import Objective, leaf_without_values, scores_of
from .racing import Incumbent, why_off

MOST_UNRACED = 10  # baselines beside base, models and uniform average; if there are more, they are raced
MAX_FAILURES_AT_START = 10  # failures before the first success that end the run


def _digest(recipe: Recipe) -> str:
    return recipe.digest


@dataclass(frozen=True)
class RunPlan:
    """The configuration, search space, task entries and baselines of a run.

    `last`: the number of the last trial, if the run repeats a recorded one. `weights_key`: returns equal strings for
    recipes that give the same weights.
    """

    config: RunConfig
    space: SearchSpace
    entries: tuple[TaskEntry, ...]
    baselines: Sequence[tuple[str, Recipe]]
    last: int | None = None
    weights_key: Callable[[Recipe], str] = _digest

    @cached_property
    def raced_baselines(self) -> frozenset[int]:
        """The numbers of the baselines that may be dropped early: none, unless there are many.

        Never the base and the models, from which scales and limits come, nor the uniform average, which is reported.
        """
        kept = {BASE, UNIFORM, *(parent_name(model) for model in self.config.models)}
        others = frozenset(number for number, (name, _) in enumerate(self.baselines) if name not in kept)
        raced = len(others) > MOST_UNRACED and why_off(self.config.search.racing, self.entries) is None
        return others if raced else frozenset()

    @property
    def total(self) -> int:
        """The number of trials, if all are proposed: baselines and candidates. Probes do not count."""
        return len(self.baselines) + self.config.search.trials if self.last is None else self.last + 1


class Leaderboard:
    """Ranks the finished trials.

    Attributes:
        trials: the finished trials in the order in which they finished.
        objective: None until the last baseline that is not raced has finished, because its scales and limits come from
            the parents.
        best: the feasible complete trial with the highest value, and of those with equal values the first.
    """

    def __init__(self, plan: RunPlan, run_folder: RunFolder) -> None:
        self.plan, self.run_folder = plan, run_folder
        self.trials: list[Trial] = []
        self.objective: Objective | None = None
        self.best: Trial | None = None
        self._scored: dict[str, Trial] = {}  # by the key of the weights
        self._incumbent: Incumbent | None = None
        self._item_ids: dict[str, tuple[str, ...]] | None = None
        self._unfinished = set(range(len(plan.baselines)))  # numbers of baselines
        self._first_failure = ""
        self._proposals = self._failed = 0

    def add(self, trial: Trial) -> list[Trial]:
        """Add a finished trial; return the trials to report to the sampler now: none until all baselines have finished.

        Raises:
            RunFailedError: all baselines have finished, and no parent could be scored.
        """
        finished_before = self.baselines_finished
        self.trials.append(trial)
        if trial.probe:
            return [trial] if finished_before else []
        if not trial.failed:
            self._scored.setdefault(self.plan.weights_key(trial.recipe), trial)
        if trial.name:
            self._unfinished.discard(trial.number)
        else:
            self._proposals += 1
            self._failed += trial.failed
            self._first_failure = self._first_failure or trial.error or ""
        if self.objective is not None:
            self._compare(trial)
        elif not self._unfinished - self.plan.raced_baselines:
            self._fix_objective()
        if finished_before:
            return [trial]
        return self.trials if self.baselines_finished else []

    @property
    def baselines_finished(self) -> bool:
        """Whether all baselines have finished."""
        return not self._unfinished

    def value_of(self, scores: Mapping[str, Score]) -> float | None:
        """Return the objective of a candidate's scores; None without scores, or while the objective is unknown."""
        if not scores:
            return None
        if self.objective is not None:
            return self.objective.value(scores)
        if all(e.bounded for e in self.plan.entries if e.weight > 0):  # the scales are 1, whatever the parents score
            return self._current_objective().value(scores)
        return None

    def compare(self, items: Scores) -> tuple[float | None, float | None]:
        """Estimate a candidate's value from its difference from the incumbent on the items that both were scored on.

        Returns the estimate without shrinkage and the standard error of the difference; None without an incumbent, or
        if no task is raced.
        """
        incumbent = self.incumbent()
        if incumbent is None or self.objective is None or incumbent.trial.value is None:
            return None, None
        if not any(entry.raced for entry in self.plan.entries):
            return None, None
        scores = incumbent.differences(items)
        stderr = self.objective.stderr(scores)
        estimate = incumbent.trial.value + self.objective.value(scores)
        return (estimate, stderr) if math.isfinite(stderr) and math.isfinite(estimate) else (None, None)

    def observation(self, trial: Trial, violations: Mapping[str, float], stderr: float) -> Observation:
        """Return the observation of a scored candidate for the sampler; `stderr` is that of its scores alone."""
        split = self.plan.config.split
        error = stderr if trial.stderr is None else trial.stderr
        estimate = trial.value if trial.estimate is None or trial.complete else trial.estimate
        return Observation(
            trial.proposal,
            trial.value,
            violations,
            warm_start=bool(trial.name),
            name=trial.name,
            complete=trial.complete,
            estimate=math.nan if estimate is None else estimate,
            stderr=error,
            resolution=error * math.sqrt(split.search / split.select),
        )

    @property
    def spent(self) -> int:
        """The item scores that proposals have taken so far, probes counted as in `Trial.items`."""
        return items_spent(self.trials)

    @property
    def budget(self) -> int:
        """The most item scores that the proposals may take; 0 while the number of items is unknown."""
        search = self.plan.config.search
        whole = search.trials * max((trial.items for trial in self.trials if trial.complete), default=0)
        return whole if search.item_scores is None else min(whole, search.item_scores)

    def feasible(self, trials: Iterable[Trial] | None = None) -> list[Trial]:
        """Return the complete trials within all limits, of `trials` or of all."""
        objective = self.objective
        if objective is None:
            return []
        among = self.trials if trials is None else trials
        return [trial for trial in among if trial.complete and objective.feasible(trial.scores)]

    def baseline(self, name: str) -> Trial | None:
        """Return the complete baseline of this name."""
        return next((trial for trial in self.trials if trial.name == name and trial.complete), None)

    def parents(self) -> list[Trial]:
        """Return the trials of the fine-tunes that could be scored."""
        parents = (self.baseline(parent_name(model)) for model in self.plan.config.models)
        return [trial for trial in parents if trial is not None]

    def scored(self, recipe: Recipe) -> Trial | None:
        """Return the first trial of the same weights that did not fail."""
        return self._scored.get(self.plan.weights_key(recipe))

    def incumbent(self) -> Incumbent | None:
        """Return the incumbent of races; None before the first feasible candidate."""
        best = self.best
        if best is not None and (self._incumbent is None or self._incumbent.trial.number != best.number):
            self._incumbent = self.as_incumbent(best)
        return self._incumbent

    def as_incumbent(self, trial: Trial) -> Incumbent | None:
        """Return a trial as an incumbent; None if its items are not on disk."""
        scores = self.run_folder.items(trial.number, "search")
        return None if scores is None else Incumbent(trial, scores, self.plan.entries)

    def result_of(
        self, pending: PendingCandidate, items: Scores
    ) -> tuple[Literal["complete", "dropped", "failed"], Mapping[str, Score], str | None]:
        """Return (state, scores, error) of a candidate whose job has ended without an error."""
        if pending.race is not None and (incumbent := pending.race.lost_to) is not None:
            return "dropped", incumbent.estimate(items), None
        if (other := self.mismatched_leaf(items)) is not None:
            return "failed", {}, f"'{other}' scored other items than for the first candidate"
        if (leaf := leaf_without_values(items)) is not None:
            return "failed", {}, f"'{leaf}': none of its documents has a value of the metric"
        scores = scores_of(self.plan.entries, items)
        for name, score in scores.items():
            if not math.isfinite(score.value):
                return "failed", {}, f"task '{name}' scored {score.value}"
        return "complete", scores, None

    def mismatched_leaf(self, items: Scores) -> str | None:
        """Return a leaf task whose items differ from the first complete trial's, so that scores cannot be compared."""
        if self._item_ids is None:
            first = next((trial for trial in self.trials if trial.complete), None)
            known = None if first is None else self.run_folder.items(first.number, "search")
            self._item_ids = None if known is None else {leaf: found.ids for leaf, found in known.items.items()}
        return next((n for n, ids in (self._item_ids or {}).items() if items.items[n].ids != ids), None)

    def raise_if_all_failed(self, *, finished: bool) -> None:
        """Raise RunFailedError if every proposal failed and the run has finished or many have failed."""
        if self._proposals and self._failed == self._proposals and (finished or self._failed >= MAX_FAILURES_AT_START):
            raise RunFailedError(
                f"every candidate failed ({self._failed} of {self._proposals}); the first one with: "
                f"{self._first_failure}"
            )

    def _fix_objective(self) -> None:
        if not self.parents():
            errors = [f"{trial.name}: {trial.error}" for trial in self.trials if trial.name and not trial.complete]
            listed = "".join(f"\n  - {error}" for error in errors)
            raise RunFailedError(f"no fine-tune could be scored; fix this and start a new run with --output:{listed}")
        self.objective = self._current_objective()
        self.trials = [replace(t, value=self.objective.value(t.scores)) if t.complete else t for t in self.trials]
        for trial in self.trials:
            self._compare(trial)

    def _compare(self, trial: Trial) -> None:
        assert self.objective is not None, "Should not reach."
        if trial.complete and self.objective.feasible(trial.scores):
            self.best = max(filter(None, (self.best, trial)), key=lambda t: (t.value or 0.0, -t.number))

    def _current_objective(self) -> Objective:
        return self.objective or Objective.fixed_by(self.plan.entries, [trial.scores for trial in self.parents()])
