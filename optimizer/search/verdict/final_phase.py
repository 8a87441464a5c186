"""The final phase: choose the winner with items the search never saw, then open the report items once.

The best few candidates by search score are scored on the select part too; the best one on both parts together wins. The
search part alone would flatter what the search chose by it, and the select part alone has too few items to tell good
candidates apart. Winner, best parent and the control's best candidate are fixed before the report part is opened.
Winner, base, parents, uniform average, best baseline and the control's best are scored on it; the differences come with
paired bootstrap intervals, and the sentence follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....evaluators import Part, Scores, Suite
from ....search_spaces import BASE, UNIFORM
from ...pools import Job
from ...run_folder.answer_file import save_answers
from ...run_folder.trial import Trial
from ...stop_signals import RunFailedError
from ..baseline_cache import BaselineCache
from ..dispatcher import Dispatcher, JobOutcome, run_all
from ..leaderboard import Leaderboard
from ..objective import Objective, leaf_without_values, scores_of

FINALISTS = 5
Progress = Callable[[str, int, int], None]
"""(phase, finished steps, all steps)"""


def items_afterwards(suite: Suite, models: int) -> int:
    """Return the most item scores that the final phase takes of a search over `models` models."""
    select, report = (sum(suite.counts(part).values()) for part in ("select", "report"))
    # The best parent and baseline may be finalists too; base, models, uniform, best baseline and winner are reported.
    return (FINALISTS + 2) * select + (models + 4) * report


@dataclass(frozen=True)
class Choice:
    """The winner, and all finalists with their objective on the select part."""

    winner: Trial
    finalists: tuple[tuple[Trial, float], ...]


class FinalPhase:
    """Scores the trials of a finished search on the select and report parts.

    `digests`: trial number -> (device name, digest of the weights) for every trial scored here.
    """

    def __init__(
        self,
        leaderboard: Leaderboard,
        dispatcher: Dispatcher,
        announce: Callable[[str], None],
        *,
        cache: BaselineCache | None = None,
        progress: Progress = lambda title, done, total: None,
    ) -> None:
        """`cache` has the scores of baselines from earlier runs; `progress` is called after every scored trial."""
        assert leaderboard.objective is not None, "Should not reach."
        self.leaderboard, self.dispatcher, self.announce = leaderboard, dispatcher, announce
        self.objective: Objective = leaderboard.objective
        self.cache, self.progress = cache, progress
        self.digests: dict[int, tuple[str, str]] = {}

    def choose(self) -> Choice:
        """Score the best trials by search score on the select part; equal weights count once.

        Raises:
            RunFailedError: no candidate keeps within the limits that the tasks set, or none of the best can be scored.
        """
        ranked = sorted(self.leaderboard.feasible(), key=lambda trial: (-(trial.value or 0.0), trial.number))
        if not ranked:
            raise RunFailedError(
                "no candidate keeps within every max_drop; search longer, or start a new run with looser limits"
            )
        key = self.leaderboard.plan.weights_key
        distinct: dict[str, Trial] = {}
        for trial in ranked:
            distinct.setdefault(key(trial.recipe), trial)
        chosen = list(distinct.values())[:FINALISTS]
        # The best parent and baseline are always finalists, however many candidates scored higher on the search part.
        chosen += [t for t in (self.best_parent(), self.best_baseline()) if t in ranked and t not in chosen]
        items = self.score(chosen, "select")
        entries, value = self.leaderboard.plan.entries, self.objective.value
        found = [(t, value(scores_of(entries, items[t.number]))) for t in chosen if t.number in items]
        if not found:
            raise RunFailedError("none of the best candidates could be scored on the select items")
        return Choice(max(found, key=lambda pair: (self._on_both(*pair), -pair[0].number))[0], tuple(found))

    def _on_both(self, trial: Trial, select: float) -> float:
        """Return the objective on the search and select parts together, each weighted by its share of the items."""
        split = self.leaderboard.plan.config.split
        return (split.search * (trial.value or 0.0) + split.select * select) / (split.search + split.select)

    def reported(self, winner: Trial) -> list[tuple[Trial, str]]:
        """Return the trials that are scored on the report part, each with its role."""
        named = [
            (self.leaderboard.baseline(BASE), "base"),
            *((trial, "parent") for trial in self.leaderboard.parents()),
        ]
        named.append((self.leaderboard.baseline(UNIFORM), "uniform"))
        if (baseline := self.best_baseline()).number not in [trial.number for trial, _ in named if trial is not None]:
            named.append((baseline, "baseline"))
        named.append((winner, "winner"))
        return [(trial, role) for trial, role in named if trial is not None]

    def best_parent(self) -> Trial:
        """Return the best parent by search score."""
        return max(self.leaderboard.parents(), key=lambda trial: (trial.value or 0.0, -trial.number))

    def best_baseline(self) -> Trial:
        """Return the best baseline by search score: what trying the usual recipes by hand would have found."""
        baselines = [trial for trial in self.leaderboard.trials if trial.name and trial.complete]
        return max(baselines, key=lambda trial: (trial.value or 0.0, -trial.number))

    def score(self, trials: Sequence[Trial], part: Part) -> dict[int, Scores]:
        """Return trial number -> scores on a part, which are read from the run's folder or the cache if they are there.

        A trial that cannot be scored is left out, and the reason is announced.
        """
        run_folder = self.leaderboard.run_folder
        found = {trial.number: run_folder.items(trial.number, part) or self._cached(trial, part) for trial in trials}
        labels = {trial.number: trial.label for trial in trials}

        def done(number: int, outcome: JobOutcome) -> None:
            finished.append(number)
            self.progress(f"{part} items", len(finished), len(jobs))
            if outcome.scores is not None:
                save_answers(run_folder.files, number, outcome.scores)
                run_folder.save_items(number, outcome.scores)
                if (
                    missing[number].name
                    and self.cache is not None
                    and not any(b.smaller_batches for b in outcome.blocks)
                ):
                    self.cache.save(missing[number].recipe, outcome.scores)

        missing = {trial.number: trial for trial in trials if found[trial.number] is None}  # the winner may be a parent
        jobs = [Job(trial.number, trial.recipe, part, digest=True) for trial in missing.values()]
        finished: list[int] = []
        self.progress(f"{part} items", 0, len(jobs))
        grace = self.leaderboard.plan.config.workers.grace
        for number, outcome in run_all(self.dispatcher, jobs, grace=grace, done=done).items():
            found[number] = outcome.scores
            if outcome.scores is None:
                self.announce(f"{missing[number].label} cannot be scored on the {part} items: {outcome.error}")
            if outcome.digest is not None:
                self.digests[number] = outcome.digest
        scored = {number: scores for number, scores in found.items() if scores is not None}
        for number, scores in list(scored.items()):
            if (leaf := leaf_without_values(scores)) is not None:
                del scored[number]
                self.announce(
                    f"{labels[number]} has no score on the {part} items: none of the documents of '{leaf}' has a value "
                    "of the metric"
                )
        return scored

    def _cached(self, trial: Trial, part: Part) -> Scores | None:
        """Return the scores of a baseline from an earlier run, after saving them in this run's folder; else None."""
        found = self.cache.load(trial.recipe, part) if trial.name and self.cache is not None else None
        if found is not None:
            self.leaderboard.run_folder.save_items(trial.number, found)
        return found
