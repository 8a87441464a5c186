"""The final phase: chooses the winner on items that the search has not used, then scores it on the report items.

The best few candidates by search score are scored on the select part, and the best of them is the winner. Winner and
best parent are fixed before the report part is used. Winner, base, parents, uniform average and best baseline are
scored on it. Paired bootstrap intervals of the differences decide the wording of the conclusions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...evaluators import Part, Score, Scores
from ...search_spaces import BASE, UNIFORM
from ..pools import Job
from ..run_folder.file_names import LOOKS, VERDICT
from ..run_folder.trial import Trial, scores_document
from ..stop_signals import RunFailedError
from .answer_audit import audit_warnings, rates_document
from .dispatcher import Dispatcher, JobOutcome, run_all
from .leaderboard import Leaderboard
from .objective import Difference, Objective, scores_of

FINALISTS = 5


@dataclass(frozen=True)
class VerdictRow:
    """One line of the result: a candidate's scores on the report part, and the objective with its standard error.

    `answers` holds the rates of its generated answers (task -> fact -> mean).
    """

    trial: Trial
    role: str
    scores: dict[str, Score]
    value: float
    stderr: float
    answers: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Comparison:
    """The difference between the winner and another candidate on the report part."""

    against: str
    difference: Difference

    @property
    def sentence(self) -> str:
        """The conclusion that the interval supports."""
        d = self.difference
        if d.low != d.low:
            return f"The winner scores {d.value:+.4f} against {self.against}; there is no interval for it."
        interval = f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}] on {d.n} report items"
        if not d.distinguishable:
            return f"The winner is not distinguishable from {self.against}: {interval}."
        return f"The winner is {'better' if d.low > 0 else 'worse'} than {self.against}: {interval}."


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run.

    Attributes:
        looks: how often the report part has been scored, including this time.
        scorers: task -> its scorer.
        warnings: how the winner's generated answers differ from its parents'.
    """

    winner: Trial
    best_parent: Trial
    rows: tuple[VerdictRow, ...]
    finalists: tuple[tuple[Trial, float], ...]
    comparisons: tuple[Comparison, ...]
    looks: int
    scorers: Mapping[str, str]
    warnings: tuple[str, ...]


class FinalPhase:
    """The final phase of a search whose trials have finished.

    `digests`: trial number -> (device name, digest of the weights) for every trial scored here.
    """

    def __init__(
        self,
        leaderboard: Leaderboard,
        dispatcher: Dispatcher,
        scorers: Mapping[str, str],
        announce: Callable[[str], None],
    ) -> None:
        assert leaderboard.objective is not None, "Should not reach."
        self.leaderboard, self.dispatcher = leaderboard, dispatcher
        self.scorers, self.announce = scorers, announce
        self.objective: Objective = leaderboard.objective
        self.digests: dict[int, tuple[str, str]] = {}

    def run(self) -> Verdict:
        """Choose the winner, score the report part, compare, and write verdict.json.

        Raises:
            RunFailedError: no candidate keeps within the limits that the tasks set, or none of the best can be scored.
        """
        finalists = self._finalists()
        winner = max(finalists, key=lambda pair: (pair[1], -pair[0].number))[0]
        best_parent = self._best_parent()
        looks = self._look()
        on_report = self._on_report(winner)
        items = self._score([trial for trial, _ in on_report], "report")
        if winner.number not in items:
            raise RunFailedError(
                f"the winner, {winner.label}, cannot be scored on the report items; its recipe: "
                f"mergesmith export {self.leaderboard.run_folder.path} --trial {winner.number}"
            )
        rows = tuple(self._row(trial, role, items[trial.number]) for trial, role in on_report if trial.number in items)
        compared = {f"the best parent ({best_parent.name.removeprefix('parent ')})": best_parent}
        if (uniform := self.leaderboard.baseline(UNIFORM)) is not None:
            compared["the uniform average"] = uniform
        if (baseline := self._best_baseline()).number not in [trial.number for trial in compared.values()]:
            compared[f"the best baseline ({baseline.name})"] = baseline
        comparisons = tuple(
            Comparison(against, self.objective.difference(items[winner.number], items[other.number]))
            for against, other in compared.items()
            if other.number != winner.number and other.number in items
        )
        parents = [items[parent.number] for parent in self.leaderboard.parents() if parent.number in items]
        warnings = tuple(audit_warnings(items[winner.number], parents))
        verdict = Verdict(
            winner, best_parent, rows, tuple(finalists), comparisons, looks, self.scorers, tuple(warnings)
        )
        self.leaderboard.run_folder.files.write_json(VERDICT, verdict_document(verdict))
        return verdict

    def _finalists(self) -> list[tuple[Trial, float]]:
        """Return the best trials by search score, each with its objective on select; equal recipes count once."""
        ranked = sorted(self.leaderboard.feasible(), key=lambda trial: (-(trial.value or 0.0), trial.number))
        if not ranked:
            raise RunFailedError(
                "no candidate keeps within every max_drop; search longer, or start a new run with looser limits"
            )
        distinct = {trial.recipe.digest: trial for trial in reversed(ranked)}
        chosen = [trial for trial in ranked if distinct[trial.recipe.digest] is trial][:FINALISTS]
        # The best parent and baseline are always finalists, however many candidates scored higher on the search part.
        chosen += [t for t in (self._best_parent(), self._best_baseline()) if t in ranked and t not in chosen]
        items = self._score(chosen, "select")
        entries, value = self.leaderboard.plan.entries, self.objective.value
        found = [(t, value(scores_of(entries, items[t.number]))) for t in chosen if t.number in items]
        if not found:
            raise RunFailedError("none of the best candidates could be scored on the select items")
        return found

    def _on_report(self, winner: Trial) -> list[tuple[Trial, str]]:
        named = [
            (self.leaderboard.baseline(BASE), "base"),
            *((trial, "parent") for trial in self.leaderboard.parents()),
        ]
        named.append((self.leaderboard.baseline(UNIFORM), "uniform"))
        if (baseline := self._best_baseline()).number not in [trial.number for trial, _ in named if trial is not None]:
            named.append((baseline, "baseline"))
        named.append((winner, "winner"))
        return [(trial, role) for trial, role in named if trial is not None]

    def _best_parent(self) -> Trial:
        return max(self.leaderboard.parents(), key=lambda trial: (trial.value or 0.0, -trial.number))

    def _best_baseline(self) -> Trial:
        """Return the best baseline by search score: what trying the usual recipes by hand would have found."""
        baselines = [trial for trial in self.leaderboard.trials if trial.name and trial.complete]
        return max(baselines, key=lambda trial: (trial.value or 0.0, -trial.number))

    def _row(self, trial: Trial, role: str, items: Scores) -> VerdictRow:
        scores = scores_of(self.leaderboard.plan.entries, items)
        value, stderr = self.objective.value(scores), self.objective.stderr(scores)
        return VerdictRow(trial, role, scores, value, stderr, rates_document(items))

    def _score(self, trials: Sequence[Trial], part: Part) -> dict[int, Scores]:
        """Return trial number -> scores on a part; scores that are in the run's folder already are read from there.

        A trial that cannot be scored is left out, and the reason is announced.
        """
        run_folder = self.leaderboard.run_folder
        found = {trial.number: run_folder.items(trial.number, part) for trial in trials}

        def done(number: int, outcome: JobOutcome) -> None:
            if outcome.scores is not None:
                run_folder.save_items(number, outcome.scores)

        missing = {trial.number: trial for trial in trials if found[trial.number] is None}  # the winner may be a parent
        jobs = [Job(trial.number, trial.recipe, part, digest=True) for trial in missing.values()]
        grace = self.leaderboard.plan.config.workers.grace
        for number, outcome in run_all(self.dispatcher, jobs, grace=grace, done=done).items():
            found[number] = outcome.scores
            if outcome.scores is None:
                self.announce(f"{missing[number].label} cannot be scored on the {part} items: {outcome.error}")
            if outcome.digest is not None:
                self.digests[number] = outcome.digest
        return {number: scores for number, scores in found.items() if scores is not None}

    def _look(self) -> int:
        """Record that the report part is about to be scored; return how often that has happened."""
        path = self.leaderboard.run_folder.path / LOOKS
        looks = 1 + (json.loads(path.read_text(encoding="utf-8"))["report_looks"] if path.is_file() else 0)
        self.leaderboard.run_folder.files.write_json(LOOKS, {"schema_version": 1, "report_looks": looks})
        return looks


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """Return the content of verdict.json."""
    return {
        "schema_version": 1,
        "report_looks": verdict.looks,
        "scorers": dict(verdict.scorers),
        "winner": {"trial": verdict.winner.number, "name": verdict.winner.label},
        "best_parent": {"trial": verdict.best_parent.number, "name": verdict.best_parent.label},
        "finalists": [
            {"trial": trial.number, "name": trial.label, "select": value} for trial, value in verdict.finalists
        ],
        "report": [
            {
                "role": row.role,
                "trial": row.trial.number,
                "name": row.trial.label,
                "objective": row.value,
                "stderr": row.stderr if math.isfinite(row.stderr) else None,
                "scores": scores_document(row.scores),
                "answers": row.answers,
            }
            for row in verdict.rows
        ],
        "comparisons": [
            {"against": c.against, **c.difference.to_document(), "sentence": c.sentence} for c in verdict.comparisons
        ],
        "warnings": list(verdict.warnings),
    }
