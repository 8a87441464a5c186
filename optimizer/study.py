"""The search loop: baselines, then proposals until the budget is spent; every finished trial is on disk at once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..evaluators import BlockScores, Entry, Scores, join
from ..merge_ops import Recipe
from ..search_spaces import OutsideSpaceError, SearchSpace, parent_name
from .audit import rates_document
from .config import RunConfig
from .journal import Journal
from .objective import Objective, scores_of
from .pools import BlockDone, Failed, Job, Pool
from .racing import Incumbent, Race, why_off
from .rundir import RunDir
from .samplers import Observation, make_sampler
from .stop import at_safe_points, check
from .trial import Trial

ALL_FAILED = 10  # so many failures before the first success end the run


class RunFailedError(RuntimeError):
    """The run cannot give a result; what is finished is kept."""


class Watcher(Protocol):
    """Who is told how a run goes."""

    def started(self, done: int, total: int, dropped: int) -> None:
        """So many of so many trials are finished already, and so many of them were dropped."""

    def block(self, items: int) -> None:
        """So many items more are scored."""

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """A trial is over; `best` is the best so far."""

    def says(self, message: str) -> None:
        """Something worth a line."""


@dataclass
class _Pending:
    """A candidate that is being scored."""

    trial: Trial  # as far as it is known
    race: Race | None  # None where it is scored in full whatever it scores
    blocks: list[BlockScores] = field(default_factory=list)

    @property
    def so_far(self) -> Trial:
        """The trial with what its blocks came to."""
        return replace(
            self.trial,
            items=sum(len(items.ids) for block in self.blocks for items in block.items.values()),
            looks=() if self.race is None else tuple(self.race.looks),
            smaller_batches=any(block.smaller_batches for block in self.blocks),
            score_seconds=sum(block.seconds for block in self.blocks),
        )


@dataclass(frozen=True)
class Plan:
    """What a run consists of before its first trial: the baselines, the space, the entries."""

    config: RunConfig
    space: SearchSpace
    entries: tuple[Entry, ...]
    baselines: Sequence[tuple[str, Recipe]]


class Study:
    """One search. `trials` are the finished ones in the order in which they finished."""

    def __init__(self, plan: Plan, rundir: RunDir, pool: Pool, watcher: Watcher) -> None:
        self.plan, self.rundir, self.pool, self.watcher = plan, rundir, pool, watcher
        self.trials: list[Trial] = []
        self.objective: Objective | None = None
        self.sampler = make_sampler(plan.config.search.sampler, plan.space, plan.config.search.seed)
        self.journal = Journal(rundir, plan.space, rundir.trials())
        self.racing_off = why_off(plan.config.search.racing, plan.entries)
        self._pending: dict[int, _Pending] = {}
        self._scored: dict[str, Trial] = {}  # by the recipe's digest
        self._raced_against: Incumbent | None = None
        self._known_for = 0  # how many trials had finished when it was last looked for
        self._item_ids: dict[str, tuple[str, ...]] | None = None

    def run(self) -> None:
        """Score what is left of the baselines, then of the trials.

        Raises:
            RunFailedError: no parent or no candidate can be scored.
            UserError: the disk refuses.
        """
        search = self.plan.config.search
        baselines = len(self.plan.baselines)
        recorded = self.rundir.trials()
        done = {trial.number for trial in recorded}
        dropped = sum(trial.dropped for trial in recorded)
        self.watcher.started(len(done), baselines + search.trials, dropped)
        if self.racing_off is not None and search.racing.rule != "off":
            self.watcher.says(f"racing is off, every candidate is scored in full: {self.racing_off}")
        for trial in recorded:
            if trial.name:
                self._take(trial)
        self._score(self._baseline(i) for i in range(baselines) if i not in done)
        self._fix_objective()
        for trial in recorded:
            if not trial.name:
                self._take(trial)
        left = (i for i in range(search.trials) if baselines + i not in done)
        self._score(self._proposals(left, time.monotonic()))
        self._raise_if_nothing_worked(finished=True)

    @property
    def best(self) -> Trial | None:
        """The feasible complete trial of the highest value, the earliest of equals."""
        return max(self.feasible(), key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    def feasible(self) -> list[Trial]:
        """The complete trials that pass no limit."""
        objective = self.objective
        if objective is None:
            return []
        return [trial for trial in self.trials if trial.complete and objective.feasible(trial.scores)]

    def named(self, name: str) -> Trial | None:
        """The complete baseline of that name."""
        return next((trial for trial in self.trials if trial.name == name and trial.complete), None)

    def parents(self) -> list[Trial]:
        """The fine-tunes themselves, those that could be scored."""
        found = (self.named(parent_name(model)) for model in self.plan.config.models)
        return [trial for trial in found if trial is not None]

    def _baseline(self, number: int) -> Trial:
        name, recipe = self.plan.baselines[number]
        trial = Trial(number, recipe, "failed", name=name, after=len(self.trials))
        try:
            return replace(trial, params=self.plan.space.params(recipe))
        except OutsideSpaceError as reason:
            return replace(trial, outside=str(reason))

    def _proposals(self, indices: Iterator[int], start: float) -> Iterator[Trial]:
        limit = self.plan.config.search.time_limit
        for index in indices:
            if limit is not None and time.monotonic() - start >= limit:
                self.watcher.says(f"time limit of {limit:g} s reached after {len(self.trials)} trials")
                return
            pending = [p.trial.params for p in self._pending.values() if p.trial.params is not None]
            params = self.sampler.ask(index, pending)
            number = len(self.plan.baselines) + index
            yield Trial(number, self.plan.space.recipe(params), "failed", params=params, after=len(self.trials))

    def _score(self, candidates: Iterator[Trial]) -> None:
        """Keep the pool busy until the candidates are used up and all of them are finished."""
        more = True
        with at_safe_points():
            while more or self._pending:
                while more and self.pool.free:
                    trial = next(candidates, None)
                    if trial is None:
                        more = False
                        break
                    self._begin(trial)
                    check()
                if self._pending:
                    self._handle_event()
                check()

    def _begin(self, trial: Trial) -> None:
        """Have a candidate scored, or take over the scores of an earlier one with the same recipe.

        Those of a dropped one too: the incumbent that it lost to has only been replaced by better ones. One that failed
        is scored again; the machine may have been at fault, as when its memory was full.
        """
        known = self._scored.get(trial.recipe.digest)
        if known is None:
            race = None if trial.name or self.racing_off is not None else Race(self.plan.config.search.racing)
            self._pending[trial.number] = _Pending(trial, race)
            self.pool.submit(Job(trial.number, trial.recipe, "search"))
            return
        same = replace(trial, state=known.state, value=known.value, scores=known.scores, repeats=known.number)
        same = replace(same, answers=known.answers, smaller_batches=known.smaller_batches)
        self._record(same, self.rundir.items(known.number, "search"))

    def _handle_event(self) -> None:
        event = self.pool.next_event()
        if isinstance(event, BlockDone):
            pending = self._pending[event.number]
            pending.blocks.append(event.scores)
            pending.trial = replace(pending.trial, merge_seconds=event.merge_seconds)
            self.watcher.block(sum(len(items.ids) for items in event.scores.items.values()))
            goes_on = pending.race is None or pending.race.goes_on(event.scores, self._incumbent())
            self.pool.answer(event.number, go_on=goes_on)
            return
        pending = self._pending.pop(event.number)
        if isinstance(event, Failed):
            self._record(replace(pending.so_far, error=event.error), None)
        else:
            self._record(*self._completed(pending))

    def _completed(self, pending: _Pending) -> tuple[Trial, Scores]:
        items = join(pending.blocks)
        trial = replace(pending.so_far, answers=rates_document(items))
        if pending.race is not None and (incumbent := pending.race.lost_to) is not None:
            return replace(trial, state="dropped", scores=incumbent.estimate(items)), items
        if (other := self._other_items(items)) is not None:
            return replace(trial, error=f"'{other}' scored other items than for the first candidate"), items
        scores = scores_of(self.plan.entries, items)
        trial = replace(trial, scores=scores)
        strange = [name for name, score in scores.items() if not math.isfinite(score.value)]
        if strange:
            return replace(trial, scores={}, error=f"task '{strange[0]}' scored {scores[strange[0]].value}"), items
        return replace(trial, state="complete"), items

    def _incumbent(self) -> Incumbent | None:
        """What candidates are raced against now; None before any candidate keeps within the limits."""
        if self._known_for == len(self.trials):  # to go through all trials at every block would take its time
            return self._raced_against
        self._known_for = len(self.trials)
        best, known = self.best, self._raced_against
        if best is not None and (known is None or known.trial.number != best.number):
            scores = self.rundir.items(best.number, "search")
            self._raced_against = None if scores is None else Incumbent(best, scores, self.plan.entries)
        return self._raced_against

    def _other_items(self, items: Scores) -> str | None:
        """A leaf whose items are not those of the first complete trial: nothing could be compared."""
        first = next((trial for trial in self.trials if trial.complete), None)
        if self._item_ids is None and first is not None:
            known = self.rundir.items(first.number, "search")
            self._item_ids = {} if known is None else {leaf: found.ids for leaf, found in known.items.items()}
        return next((n for n, ids in (self._item_ids or {}).items() if items.items[n].ids != ids), None)

    def _record(self, trial: Trial, scores: Scores | None) -> None:
        if not trial.failed and trial.value is None and self._scales_known():
            trial = replace(trial, value=self._objective_now().value(trial.scores))
        self.rundir.append(trial, scores)
        self._take(trial)
        self.watcher.finished(trial, self.best)
        self._raise_if_nothing_worked(finished=False)

    def _take(self, trial: Trial) -> None:
        """A trial is finished, now or in an earlier session; baselines are told once the objective is fixed."""
        self.trials.append(trial)
        if not trial.failed:
            self._scored.setdefault(trial.recipe.digest, trial)
        if self.objective is not None:
            self._tell(trial)

    def _fix_objective(self) -> None:
        """Scales and limits come from the parents; then the sampler hears of the baselines."""
        parents = self.parents()
        if not parents:
            errors = [f"{trial.name}: {trial.error}" for trial in self.trials if trial.name and not trial.complete]
            told = "".join(f"\n  - {error}" for error in errors)
            raise RunFailedError(f"no fine-tune could be scored; mend it and start a new run with --output:{told}")
        self.objective = self._objective_now()
        self.trials = [replace(t, value=self.objective.value(t.scores)) if t.complete else t for t in self.trials]
        for trial in self.trials:
            self._tell(trial)

    def _scales_known(self) -> bool:
        return self.objective is not None or all(entry.bounded for entry in self.plan.entries)

    def _objective_now(self) -> Objective:
        return self.objective or Objective.fixed_by(self.plan.entries, [trial.scores for trial in self.parents()])

    def _tell(self, trial: Trial) -> None:
        assert self.objective is not None, "Should not reach."
        violations = {} if trial.failed else self.objective.violations(trial.scores)
        if trial.repeats is not None:  # its estimate is worth as much as the first one's
            trial = replace(trial, items=self._scored[trial.recipe.digest].items)
        self.journal.add(trial, violations, math.nan if trial.failed else self.objective.stderr(trial.scores))
        if trial.params is not None:
            self.sampler.tell(Observation(trial.params, trial.value, violations, warm_start=bool(trial.name)))

    def _raise_if_nothing_worked(self, *, finished: bool) -> None:
        """End a run in which every proposal failed, early when there are many."""
        proposals = [trial for trial in self.trials if not trial.name]
        failed = [trial for trial in proposals if trial.failed]
        if proposals and len(failed) == len(proposals) and (finished or len(failed) >= ALL_FAILED):
            raise RunFailedError(
                f"every candidate failed ({len(failed)} of {len(proposals)}); the first one with: {failed[0].error}"
            )
