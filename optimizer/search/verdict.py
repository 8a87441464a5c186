"""The final phase: choose the winner on items the search never saw, then open the report items once.

The best few candidates by search score are scored on the select part; the best there wins. Winner and best parent are
fixed before the report part is opened. Winner, base, parents and uniform average are scored on it; the differences
come with paired bootstrap intervals, and the sentence follows from them.
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
from ..stop import RunFailedError
from .answer_audit import audit_warnings, rates_document
from .dispatcher import Dispatcher, Outcome, do_all
from .leaderboard import Leaderboard
from .objective import Difference, Objective, scores_of

FINALISTS = 5


@dataclass(frozen=True)
class VerdictRow:
    """One line of the result: a candidate's scores on the report part, and the objective with its standard error.

    `answers` says what its generated answers were like.
    """

    trial: Trial
    role: str
    scores: dict[str, Score]
    value: float
    stderr: float
    answers: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Comparison:
    """The winner against another candidate on the report part."""

    against: str
    difference: Difference

    @property
    def sentence(self) -> str:
        """What the interval allows to say."""
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
        looks: how often its report part has been opened, this time included.
        scorers: task -> what it was scored by.
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
    """Carries out the final phase of a search whose trials are done.

    `digests`: (device name, digest of the weights) of each trial as it was scored here, by number.
    """

    def __init__(
        self, standing: Leaderboard, dispatcher: Dispatcher, scorers: Mapping[str, str], announce: Callable[[str], None]
    ) -> None:
        assert standing.objective is not None, "Should not reach."
        self.standing, self.dispatcher, self.scorers, self.announce = standing, dispatcher, scorers, announce
        self.objective: Objective = standing.objective
        self.digests: dict[int, tuple[str, str]] = {}

    def run(self) -> Verdict:
        """Choose, open the report part, compare, write verdict.json.

        Raises:
            RunFailedError: no candidate keeps within the limits that the tasks set, or none of the best can be scored.
        """
        finalists = self._finalists()
        winner = max(finalists, key=lambda pair: (pair[1], -pair[0].number))[0]
        best_parent = self._best_parent()
        looks = self._look()
        on_report = self._on_report(winner)
        items = self._scored([trial for trial, _ in on_report], "report")
        if winner.number not in items:
            raise RunFailedError(
                f"the winner, {winner.label}, cannot be scored on the report items; its recipe: "
                f"mergesmith export {self.standing.run_folder.path} --trial {winner.number}"
            )
        rows = tuple(self._row(trial, role, items[trial.number]) for trial, role in on_report if trial.number in items)
        rivals = {f"the best parent ({best_parent.name.removeprefix('parent ')})": best_parent}
        if (uniform := self.standing.named(UNIFORM)) is not None:
            rivals["the uniform average"] = uniform
        if (baseline := self._best_baseline()).number not in [trial.number for trial in rivals.values()]:
            rivals[f"the best baseline ({baseline.name})"] = baseline
        comparisons = tuple(
            Comparison(against, self.objective.difference(items[winner.number], items[other.number]))
            for against, other in rivals.items()
            if other.number != winner.number and other.number in items
        )
        parents = [items[parent.number] for parent in self.standing.parents() if parent.number in items]
        warnings = tuple(audit_warnings(items[winner.number], parents))
        verdict = Verdict(
            winner, best_parent, rows, tuple(finalists), comparisons, looks, self.scorers, tuple(warnings)
        )
        self.standing.run_folder.files.write_json(VERDICT, verdict_document(verdict))
        return verdict

    def _finalists(self) -> list[tuple[Trial, float]]:
        """The best few by search score, each with its objective on select; equal recipes count once."""
        ranked = sorted(self.standing.feasible(), key=lambda trial: (-(trial.value or 0.0), trial.number))
        if not ranked:
            raise RunFailedError(
                "no candidate keeps within every max_drop; search longer, or start a new run with looser limits"
            )
        distinct = {trial.recipe.digest: trial for trial in reversed(ranked)}
        chosen = [trial for trial in ranked if distinct[trial.recipe.digest] is trial][:FINALISTS]
        # What a search has to beat stands for election too, however many candidates outscored it on the search part.
        chosen += [t for t in (self._best_parent(), self._best_baseline()) if t in ranked and t not in chosen]
        items = self._scored(chosen, "select")
        entries, value = self.standing.plan.entries, self.objective.value
        found = [(t, value(scores_of(entries, items[t.number]))) for t in chosen if t.number in items]
        if not found:
            raise RunFailedError("none of the best candidates could be scored on the select items")
        return found

    def _on_report(self, winner: Trial) -> list[tuple[Trial, str]]:
        standing = self.standing
        named = [(standing.named(BASE), "base"), *((trial, "parent") for trial in standing.parents())]
        named.append((standing.named(UNIFORM), "uniform"))
        if (baseline := self._best_baseline()).number not in [trial.number for trial, _ in named if trial is not None]:
            named.append((baseline, "baseline"))
        named.append((winner, "winner"))
        return [(trial, role) for trial, role in named if trial is not None]

    def _best_parent(self) -> Trial:
        return max(self.standing.parents(), key=lambda trial: (trial.value or 0.0, -trial.number))

    def _best_baseline(self) -> Trial:
        """What trying the usual things by hand would have found: the best baseline by search score."""
        baselines = [trial for trial in self.standing.trials if trial.name and trial.complete]
        return max(baselines, key=lambda trial: (trial.value or 0.0, -trial.number))

    def _row(self, trial: Trial, role: str, items: Scores) -> VerdictRow:
        scores = scores_of(self.standing.plan.entries, items)
        value, stderr = self.objective.value(scores), self.objective.stderr(scores)
        return VerdictRow(trial, role, scores, value, stderr, rates_document(items))

    def _scored(self, trials: Sequence[Trial], part: Part) -> dict[int, Scores]:
        """Scores on a part by number, from the run's folder where they are there already.

        A trial that cannot be scored there is left out, and the user is told.
        """
        run_folder = self.standing.run_folder
        found = {trial.number: run_folder.items(trial.number, part) for trial in trials}

        def done(number: int, outcome: Outcome) -> None:
            if outcome.scores is not None:
                run_folder.save_items(number, outcome.scores)

        missing = {trial.number: trial for trial in trials if found[trial.number] is None}  # the winner may be a parent
        jobs = [Job(trial.number, trial.recipe, part, digest=True) for trial in missing.values()]
        grace = self.standing.plan.config.workers.grace
        for number, outcome in do_all(self.dispatcher, jobs, grace=grace, done=done).items():
            found[number] = outcome.scores
            if outcome.scores is None:
                self.announce(f"{missing[number].label} cannot be scored on the {part} items: {outcome.error}")
            if outcome.digest is not None:
                self.digests[number] = outcome.digest
        return {number: scores for number, scores in found.items() if scores is not None}

    def _look(self) -> int:
        """Count this opening of the report part, before it happens."""
        path = self.standing.run_folder.path / LOOKS
        looks = 1 + (json.loads(path.read_text(encoding="utf-8"))["report_looks"] if path.is_file() else 0)
        self.standing.run_folder.files.write_json(LOOKS, {"schema_version": 1, "report_looks": looks})
        return looks


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """verdict.json."""
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
