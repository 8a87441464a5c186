"""The search loop: scores baselines, then proposals until the budget is spent.

Every finished trial is written to disk at once. There is no barrier: a free worker gets the next baseline or proposal,
whatever the other workers do. A proposal made before the last baseline has finished uses no observations, because the
scales of the objective come from the baselines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from ...evaluators import Scores, join
from ..pools import BlockDone, Failed, Finished, Job, Pool
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial, items_spent
from ..samplers import Observation, Proposal, Sampler, make_sampler
from ..session.gc_pause import gc_paused
from ..stop_signals import at_safe_points, raise_if_overdue, raise_if_stop_requested, stop_requested
from .answer_audit import rates_document
from .baseline_cache import BaselineCache, reuse_sentence
from .candidate import Candidate, PendingCandidate, block_items
from .dispatcher import Dispatcher, Restarted
from .leaderboard import Leaderboard, RunPlan
from .optuna_journal import Journal
from .proposals import Proposals
from .racing import Incumbent, Race, why_off
from .stages import Stages
from .watcher import Watcher

ENDED_BY_CALLER = "a callback ended the search"
ChooseIncumbent = Callable[[int, int], Incumbent | None]
"""(trial number, its items scored so far, this block included) -> the incumbent to compare the block with."""


class Study:
    """One search.

    `choose_incumbent` and `sampler` replace the best trial so far and the configured sampler: to replay a run, or to
    measure. `baselines_done` is called once, when the last baseline has finished or a resumed run has read it. `cache`
    has the scores of baselines from earlier runs. `on_trial` is called after every trial that finishes in this session,
    except probes; once it has returned True, no more candidates are proposed.

    Attributes:
        end: why the search ended; empty while it has not.
    """

    def __init__(
        self,
        plan: RunPlan,
        run_folder: RunFolder,
        pool: Pool,
        watcher: Watcher,
        *,
        choose_incumbent: ChooseIncumbent | None = None,
        sampler: Sampler | None = None,
        baselines_done: Callable[[Leaderboard], None] | None = None,
        cache: BaselineCache | None = None,
        on_trial: Callable[[Trial], bool] | None = None,
    ) -> None:
        self.plan, self.run_folder, self.watcher = plan, run_folder, watcher
        self.leaderboard = Leaderboard(plan, run_folder)
        self.dispatcher = Dispatcher(pool, run_folder, watcher.announce)
        self.choose_incumbent = choose_incumbent or (lambda number, items: self.leaderboard.incumbent())
        search = plan.config.search
        self.sampler = sampler or make_sampler(
            search.sampler, plan.space, search.seed, stages=search.stages, stop=search.stop
        )
        self.recorded = run_folder.trials()
        self.journal = Journal(run_folder, plan.space, self.recorded)
        self.baselines_done, self.cache, self.on_trial = baselines_done, cache, on_trial
        self.stages = Stages(self.leaderboard, run_folder, watcher.announce)
        self.racing_off = why_off(search.racing, plan.entries)
        self.end = ""
        self._ended_by_caller = False
        self._pending: dict[int, PendingCandidate] = {}
        self._twins: list[Candidate] = []  # wait for a pending candidate with the same weights

    @property
    def trials(self) -> list[Trial]:
        """The finished trials in the order in which they finished."""
        return self.leaderboard.trials

    def run(self) -> None:
        """Score the remaining baselines and proposals.

        Raises:
            RunFailedError: no parent or no candidate could be scored.
            StoppedError: a signal requested a stop; candidates in flight had the grace period to finish.
            UserError: writing to the run's folder failed.
        """
        done = {trial.number: trial for trial in self.recorded}
        counted = sum(not trial.probe for trial in self.recorded)
        limit = self.plan.config.search.item_scores
        left = None if limit is None else limit - items_spent(self.recorded)
        dropped = sum(trial.dropped for trial in self.recorded)
        self.watcher.started(counted, self.plan.total, dropped, items_left=left)
        if self.racing_off is not None and self.plan.config.search.racing.rule != "off":
            self.watcher.announce(f"racing is off, every candidate is scored in full: {self.racing_off}")
        with gc_paused():
            for trial in self.recorded:
                self._take(trial)
        proposals = Proposals(
            self.leaderboard,
            self.run_folder,
            self.sampler,
            stages=self.stages,
            pending=self._pending_points,
            announce=self.watcher.announce,
        )
        self._score(proposals.candidates(done))
        self.end = proposals.end or (ENDED_BY_CALLER if self._ended_by_caller else "")
        self.stages.finish(self.end)
        self.leaderboard.raise_if_all_failed(finished=True)

    def _pending_points(self) -> list[Proposal]:
        """Return the sampler's proposals that are being scored; baselines are left out."""
        pending = (known.candidate for known in self._pending.values())
        return [candidate.proposal for candidate in pending if not candidate.name]

    def _score(self, candidates: Iterator[Candidate]) -> None:
        """Keep the workers busy until all candidates have finished."""
        more = True
        with at_safe_points(self.plan.config.workers.grace):
            while more or self._pending or self._twins:
                if (more or self._twins) and stop_requested():
                    more = False
                    self._twins.clear()  # proposed again on resume
                    self._announce_stop()
                if more and self._ended_by_caller and self.leaderboard.objective is not None:
                    more = False  # the baselines are always scored: the verdict needs them
                while twin := self._freed_twin():
                    self._begin(twin)
                while more and self.dispatcher.free > 0:
                    candidate = next(candidates, None)
                    if candidate is None:
                        more = False
                        break
                    self._begin(candidate)
                    raise_if_overdue()
                if more or self._pending or self._twins:
                    self._handle_event()
                self.watcher.workers(*self.dispatcher.pool.worker_counts)
                raise_if_overdue()
        raise_if_stop_requested()

    def _announce_stop(self) -> None:
        if self._pending:
            self.watcher.announce(
                f"stopping: waiting up to {self.plan.config.workers.grace:g} s for {len(self._pending)} in flight; "
                "interrupt again to stop at once"
            )

    def _begin(self, candidate: Candidate) -> None:
        """Submit a candidate, or record it at once with the result of an earlier trial of the same weights.

        The result of a dropped trial is reused too, because its incumbent can only have been replaced by better ones.
        The recipe of a failed trial is scored again, because the machine may have been at fault, for example out of
        memory.
        """
        if candidate.probe:
            self._pending[candidate.number] = PendingCandidate(candidate, None)
            self.dispatcher.submit(Job(candidate.number, candidate.recipe, "search", probe=candidate.proposal))
            return
        known = self.leaderboard.scored(candidate.recipe)
        if known is None and self._has_pending_twin(candidate):
            self._twins.append(candidate)
            return
        if known is None and self._reuse(candidate):
            return
        if known is None:
            self._pending[candidate.number] = PendingCandidate(candidate, self._race(candidate))
            self.dispatcher.submit(Job(candidate.number, candidate.recipe, "search"))
            return
        trial = candidate.trial(
            known.state,
            value=self.leaderboard.value_of(known.scores),
            scores=known.scores,
            answers=known.answers,
            smaller_batches=known.smaller_batches,
            repeats=known.number,
            estimate=known.estimate,
            stderr=known.stderr,
        )
        self._record(trial, self.run_folder.items(known.number, "search"))

    def _has_pending_twin(self, candidate: Candidate) -> bool:
        """Whether a candidate with the same weights is being scored."""
        key, pending = self.plan.weights_key, (known.candidate for known in self._pending.values())
        return any(not other.probe and key(other.recipe) == key(candidate.recipe) for other in pending)

    def _freed_twin(self) -> Candidate | None:
        """Take out the first waiting candidate whose twin has finished; if the twin failed, a worker must be free."""
        free = self.dispatcher.free > 0
        finished = (candidate for candidate in self._twins if not self._has_pending_twin(candidate))
        freed = next((c for c in finished if free or self.leaderboard.scored(c.recipe) is not None), None)
        if freed is not None:
            self._twins.remove(freed)
        return freed

    def _race(self, candidate: Candidate) -> Race | None:
        unraced_baseline = candidate.name and candidate.number not in self.plan.raced_baselines
        if unraced_baseline or self.racing_off is not None:
            return None
        config = self.plan.config
        return Race(config.search.racing, search_per_select=config.split.search / config.split.select)

    def _handle_event(self) -> None:
        event = self.dispatcher.next_event()
        if isinstance(event, BlockDone):
            self._take_block(self._pending[event.number], event)
        elif isinstance(event, Restarted):
            candidate = self._pending[event.number].candidate
            self._pending[event.number] = PendingCandidate(candidate, self._race(candidate))
        elif event is not None:
            self._finish(self._pending.pop(event.number), event)

    def _take_block(self, pending: PendingCandidate, event: BlockDone) -> None:
        pending.add(event)
        scored = block_items(event.scores)
        self.watcher.block(scored)
        race = pending.race
        goes_on = race is None or race.goes_on(event.scores, self.choose_incumbent(event.number, race.items + scored))
        self.dispatcher.answer(event.number, go_on=goes_on)

    def _finish(self, pending: PendingCandidate, event: Finished | Failed) -> None:
        facts = {"worker": event.worker, "lost": self.dispatcher.lost_attempts(event.number), **pending.facts()}
        if isinstance(event, Failed):
            self._record(pending.candidate.trial("failed", error=event.error, **facts), None)
            return
        if (slopes := event.slopes) is not None:
            facts["items"] = slopes.items * (3 if slopes.by_dimension else 1)
            self._record(pending.candidate.trial("probed", slopes=slopes, **facts), None)
            return
        items = join(pending.blocks)
        self._record_scores(pending, items, **facts)

    def _reuse(self, candidate: Candidate) -> bool:
        """Record a baseline with its scores from an earlier run, if there are any; return whether there are."""
        if not candidate.name or self.cache is None or (items := self.cache.load(candidate.recipe, "search")) is None:
            return False
        count = sum(len(leaf.ids) for leaf in items.items.values())
        self._record_scores(PendingCandidate(candidate, None), items, items=count, reused=True)
        return True

    def _record_scores(self, pending: PendingCandidate, scored: Scores, **facts: Any) -> None:
        """Record a candidate with the items that were scored; `facts` are the other fields of its trial."""
        state, scores, error = self.leaderboard.result_of(pending, scored)
        value = self.leaderboard.value_of(scores)
        estimate, stderr = self.leaderboard.compare(scored) if state != "failed" else (None, None)
        result = {"value": value, "scores": scores, "error": error, "answers": rates_document(scored)}
        result |= {"estimate": estimate, "stderr": stderr}
        trial = pending.candidate.trial(state, **result, **facts)
        self._record(trial, scored)
        if trial.name and trial.complete and self.cache is not None and not (trial.reused or trial.smaller_batches):
            self.cache.save(trial.recipe, scored)

    def _record(self, trial: Trial, items: Scores | None) -> None:
        self.run_folder.append(trial, items)
        before = self.leaderboard.best
        self._take(trial)
        if (best := self.leaderboard.best) is not None and best is not before:
            self.run_folder.note("best", number=best.number, label=best.label, value=best.value)
        self.watcher.finished(trial, self.leaderboard.best)
        if self.on_trial is not None and not trial.probe:
            self._ended_by_caller = self.on_trial(trial) or self._ended_by_caller
        self.leaderboard.raise_if_all_failed(finished=False)

    def _take(self, trial: Trial) -> None:
        """Add a trial that has finished, in this session or an earlier one."""
        waiting = not self.leaderboard.baselines_finished
        for reportable in self.leaderboard.add(trial):
            self._report(reportable)
        if waiting and self.leaderboard.baselines_finished:
            if sentence := reuse_sentence(self.trials):
                self.watcher.announce(sentence)
            if self.baselines_done is not None:
                self.baselines_done(self.leaderboard)

    def _report(self, trial: Trial) -> None:
        """Report a trial to the sampler, and add a scored candidate to the Optuna journal."""
        objective = self.leaderboard.objective
        assert objective is not None, "Should not reach."
        if trial.probe:
            self.sampler.tell(Observation(trial.proposal, None, slopes=trial.slopes))
            return
        violations = {} if trial.failed else objective.violations(trial.scores)
        stderr = math.nan if trial.failed else objective.stderr(trial.scores)
        first = None if trial.repeats is None else self.leaderboard.scored(trial.recipe)
        # An estimate that is reused is as good as it was for the first trial of the recipe.
        self.journal.add(trial, violations, stderr, items=trial.items if first is None else first.items)
        self.sampler.tell(self.leaderboard.observation(trial, violations, stderr))
