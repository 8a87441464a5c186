"""The search loop: baselines, then proposals until the budget is spent; every finished trial is on disk at once.

There is no barrier anywhere: a worker that is free gets the next baseline or proposal, whatever the others do. A
proposal that is asked for before the last baseline is finished is made without observations, since the objective's
scales come from the baselines.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from ...evaluators import BlockScores, Scores, join
from ...search_spaces import OutsideSpaceError
from ..pools import BlockDone, Failed, Job, Pool
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial
from ..samplers import Observation, make_sampler
from ..session.gc_pause import gc_paused
from ..stop import at_safe_points, raise_if_overdue, raise_if_stop_requested, stop_requested
from .answer_audit import rates_document
from .dispatcher import Dispatcher, Restarted
from .leaderboard import Leaderboard, RunPlan
from .objective import scores_of
from .optuna_journal import Journal
from .racing import Incumbent, Race, why_off

Opponent = Callable[[int, int], Incumbent | None]  # (trial, its items by then) -> whom it is held against then


class Watcher(Protocol):
    """Who is told how a run goes."""

    def started(self, done: int, total: int, dropped: int) -> None:
        """So many of so many trials are finished already, and so many of them were dropped."""

    def workers(self, ready: int, wanted: int) -> None:
        """So many workers of so many are ready."""

    def block(self, items: int) -> None:
        """So many items more are scored."""

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """A trial is over; `best` is the best so far."""

    def announce(self, message: str) -> None:
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


class Study:
    """One search. `opponent` chooses whom a candidate is raced against; unset, the best so far."""

    def __init__(
        self, plan: RunPlan, run_folder: RunFolder, pool: Pool, watcher: Watcher, *, opponent: Opponent | None = None
    ) -> None:
        self.plan, self.run_folder, self.watcher = plan, run_folder, watcher
        self.standing = Leaderboard(plan, run_folder)
        self.dispatcher = Dispatcher(pool, run_folder, watcher.announce)
        self.opponent: Opponent = opponent or (lambda number, items: self.standing.incumbent())
        self.sampler = make_sampler(plan.config.search.sampler, plan.space, plan.config.search.seed)
        self.recorded = run_folder.trials()
        self.journal = Journal(run_folder, plan.space, self.recorded)
        self.racing_off = why_off(plan.config.search.racing, plan.entries)
        self._pending: dict[int, _Pending] = {}

    @property
    def trials(self) -> list[Trial]:
        """The finished trials in the order in which they finished."""
        return self.standing.trials

    def run(self) -> None:
        """Score what is left of the baselines and of the trials.

        Raises:
            RunFailedError: no parent or no candidate can be scored.
            StoppedError: a signal asked for the end; what was in flight had its time to finish.
            UserError: the disk refuses.
        """
        done = {trial.number for trial in self.recorded}
        total = len(self.plan.baselines) + self.plan.config.search.trials
        self.watcher.started(len(done), total, sum(trial.dropped for trial in self.recorded))
        if self.racing_off is not None and self.plan.config.search.racing.rule != "off":
            self.watcher.announce(f"racing is off, every candidate is scored in full: {self.racing_off}")
        with gc_paused():
            for trial in self.recorded:
                self._take(trial)
        self._score(self._candidates(done, total))
        self.standing.raise_if_nothing_worked(finished=True)

    def _candidates(self, done: set[int], total: int) -> Iterator[Trial]:
        """What is left of the baselines, then of the proposals; those that were in flight when a driver ended first."""
        baselines = len(self.plan.baselines)
        for number in range(baselines):
            if number not in done:
                yield self._baseline(number)
        limit, start = self.plan.config.search.time_limit, time.monotonic()
        asked = {event["number"]: event for event in self.run_folder.events() if event["event"] == "asked"}
        for number in range(baselines, total):
            if number in done:
                continue
            if limit is not None and time.monotonic() - start >= limit:
                self.watcher.announce(f"time limit of {limit:g} s reached after {len(self.trials)} trials")
                return
            if (known := asked.get(number)) is not None:
                params, after = known["params"], known["after"]
            else:
                pending = [p.trial.params for p in self._pending.values() if not p.trial.name and p.trial.params]
                params, after = self.sampler.ask(number - baselines, pending), len(self.trials)
            self.run_folder.note("asked", number=number, after=after, params=params)  # anew in every session
            yield Trial(number, self.plan.space.recipe(params), "failed", params=params, after=after)

    def _baseline(self, number: int) -> Trial:
        name, recipe = self.plan.baselines[number]
        trial = Trial(number, recipe, "failed", name=name, after=len(self.trials))
        try:
            return replace(trial, params=self.plan.space.params(recipe))
        except OutsideSpaceError as reason:
            return replace(trial, outside=str(reason))

    def _score(self, candidates: Iterator[Trial]) -> None:
        """Keep the workers busy until the candidates are used up and all of them are finished."""
        more = True
        with at_safe_points(self.plan.config.workers.grace):
            while more or self._pending:
                if more and stop_requested():
                    more = False
                    self._tell_of_the_end()
                while more and self.dispatcher.free > 0:
                    trial = next(candidates, None)
                    if trial is None:
                        more = False
                        break
                    self._begin(trial)
                    raise_if_overdue()
                if more or self._pending:
                    self._handle_event()
                self.watcher.workers(*self.dispatcher.pool.workers)
                raise_if_overdue()
        raise_if_stop_requested()

    def _tell_of_the_end(self) -> None:
        if self._pending:
            self.watcher.announce(
                f"stopping: waiting up to {self.plan.config.workers.grace:g} s for {len(self._pending)} in flight; "
                "interrupt again to stop at once"
            )

    def _begin(self, trial: Trial) -> None:
        """Have a candidate scored, or take over the scores of an earlier one with the same recipe.

        Those of a dropped one too: the incumbent that it lost to has only been replaced by better ones. One that failed
        is scored again; the machine may have been at fault, as when its memory was full.
        """
        known = self.standing.scored(trial.recipe)
        if known is None:
            self._pending[trial.number] = _Pending(trial, self._race(trial))
            self.dispatcher.submit(Job(trial.number, trial.recipe, "search"))
            return
        same = replace(trial, state=known.state, value=known.value, scores=known.scores, repeats=known.number)
        same = replace(same, answers=known.answers, smaller_batches=known.smaller_batches)
        self._record(same, self.run_folder.items(known.number, "search"))

    def _race(self, trial: Trial) -> Race | None:
        return None if trial.name or self.racing_off is not None else Race(self.plan.config.search.racing)

    def _handle_event(self) -> None:
        event = self.dispatcher.next_event()
        if event is None:
            return
        if isinstance(event, Restarted):
            trial = self._pending[event.number].trial
            self._pending[event.number] = _Pending(trial, self._race(trial))
            return
        if isinstance(event, BlockDone):
            pending = self._pending[event.number]
            pending.blocks.append(event.scores)
            pending.trial = replace(pending.trial, merge_seconds=event.merge_seconds)
            scored = sum(len(items.ids) for items in event.scores.items.values())
            self.watcher.block(scored)
            race = pending.race
            goes_on = race is None or race.goes_on(event.scores, self.opponent(event.number, race.items + scored))
            self.dispatcher.answer(event.number, go_on=goes_on)
            return
        pending = self._pending.pop(event.number)
        pending.trial = replace(pending.trial, worker=event.worker, lost=self.dispatcher.lost(event.number))
        if isinstance(event, Failed):
            self._record(replace(pending.so_far, error=event.error), None)
        else:
            self._record(*self._completed(pending))

    def _completed(self, pending: _Pending) -> tuple[Trial, Scores]:
        items = join(pending.blocks)
        trial = replace(pending.so_far, answers=rates_document(items))
        if pending.race is not None and (incumbent := pending.race.lost_to) is not None:
            return replace(trial, state="dropped", scores=incumbent.estimate(items)), items
        if (other := self.standing.other_items(items)) is not None:
            return replace(trial, error=f"'{other}' scored other items than for the first candidate"), items
        scores = scores_of(self.plan.entries, items)
        trial = replace(trial, scores=scores)
        strange = [name for name, score in scores.items() if not math.isfinite(score.value)]
        if strange:
            return replace(trial, scores={}, error=f"task '{strange[0]}' scored {scores[strange[0]].value}"), items
        return replace(trial, state="complete"), items

    def _record(self, trial: Trial, scores: Scores | None) -> None:
        trial = self.standing.valued(trial)
        self.run_folder.append(trial, scores)
        before = self.standing.best
        self._take(trial)
        if (best := self.standing.best) is not None and best is not before:
            self.run_folder.note("best", number=best.number, label=best.label, value=best.value)
        self.watcher.finished(trial, self.standing.best)
        self.standing.raise_if_nothing_worked(finished=False)

    def _take(self, trial: Trial) -> None:
        """A trial is finished, now or in an earlier session."""
        for known in self.standing.take(trial):
            self._tell(known)

    def _tell(self, trial: Trial) -> None:
        objective = self.standing.objective
        assert objective is not None, "Should not reach."
        violations = {} if trial.failed else objective.violations(trial.scores)
        if trial.repeats is not None:  # its estimate is worth as much as the first one's
            first = self.standing.scored(trial.recipe)
            trial = replace(trial, items=trial.items if first is None else first.items)
        self.journal.add(trial, violations, math.nan if trial.failed else objective.stderr(trial.scores))
        if trial.params is not None:
            self.sampler.tell(Observation(trial.params, trial.value, violations, warm_start=bool(trial.name)))
