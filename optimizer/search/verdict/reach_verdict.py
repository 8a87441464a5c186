"""Reaches the verdict on a search that has ended: winner, report, comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ....evaluators import Scores
from ....search_spaces import UNIFORM
from ...run_folder.file_names import CONTROL, LOOKS, VERDICT
from ...run_folder.run_folder import RunFolder
from ...run_folder.trial import Trial
from ...stop_signals import RunFailedError
from ..answer_audit import audit_warnings, rates_document
from ..objective import Objective, scores_of
from ..study import Study
from .control import Control
from .final_phase import FinalPhase
from .limits import check_limits
from .records import Comparison, Verdict, VerdictRow, verdict_document


def reach_verdict(study: Study, final: FinalPhase, control: Control | None, *, scorers: Mapping[str, str]) -> Verdict:
    """Choose the winner, score the report part, compare, and write verdict.json.

    Raises:
        RunFailedError: no candidate keeps within the limits that the tasks set, or none of the best can be scored.
    """
    run_folder = study.run_folder
    choice = final.choose()
    winner, best_parent = choice.winner, final.best_parent()
    rival = None if control is None else control.winner()
    looks = count_look(run_folder, trials=len(study.trials), winner=winner.number)
    reported = final.reported(winner)
    items = final.score([trial for trial, _ in reported], "report")
    if winner.number not in items:
        raise RunFailedError(
            f"the winner, {winner.label}, cannot be scored on the report items; its recipe: "
            f"mergesmith export {run_folder.path} --trial {winner.number}"
        )
    rows = [_row(final, trial, role, items[trial.number]) for trial, role in reported if trial.number in items]
    mine = items[winner.number]
    comparisons = [
        _comparison(final.objective, mine, items[trial.number], against, trial.number)
        for against, trial in _rivals(final).items()
        if trial.number != winner.number and trial.number in items
    ]
    if control is not None and rival is not None and (scores := control.report_items(rival)) is not None:
        rows.insert(-1, _row(final, rival, "control", scores))
        against = f"the control's best ({rival.label} of {CONTROL}/)"
        comparisons.append(_comparison(final.objective, mine, scores, against, None))
    parents = study.leaderboard.parents()
    verdict = Verdict(
        winner,
        best_parent,
        tuple(rows),
        choice.finalists,
        tuple(comparisons),
        looks,
        scorers,
        tuple(audit_warnings(mine, [items[parent.number] for parent in parents if parent.number in items])),
        tuple(study.stages.summaries()),
        None if control is None else control.cost,
        check_limits(final.objective, winner, parents, items),
    )
    run_folder.files.write_json(VERDICT, verdict_document(verdict))
    return verdict


def _comparison(objective: Objective, mine: Scores, scores: Scores, against: str, number: int | None) -> Comparison:
    tasks = {entry.name: objective.task_difference(entry, mine, scores) for entry in objective.entries}
    return Comparison(against, objective.difference(mine, scores), tasks, number)


def count_look(run_folder: RunFolder, *, trials: int, winner: int) -> int:
    """Count this opening of the report part before it happens; return the count.

    A run that is resumed without another trial and with the same winner looks at the same scores again: that is one
    look.
    """
    path = run_folder.path / LOOKS
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"report_looks": 0}
    if (known.get("trials"), known.get("winner")) == (trials, winner):
        return known["report_looks"]
    looks = 1 + known["report_looks"]
    document = {"schema_version": 1, "report_looks": looks, "trials": trials, "winner": winner}
    run_folder.files.write_json(LOOKS, document)
    return looks


def _rivals(final: FinalPhase) -> dict[str, Trial]:
    """Return the trials that the winner is compared with, by their names in the sentences."""
    best_parent = final.best_parent()
    rivals = {f"the best parent ({best_parent.name.removeprefix('parent ')})": best_parent}
    if (uniform := final.leaderboard.baseline(UNIFORM)) is not None:
        rivals["the uniform average"] = uniform
    if (baseline := final.best_baseline()).number not in [trial.number for trial in rivals.values()]:
        rivals[f"the best baseline ({baseline.name})"] = baseline
    return rivals


def _row(final: FinalPhase, trial: Trial, role: str, items: Scores) -> VerdictRow:
    scores = scores_of(final.leaderboard.plan.entries, items)
    value, stderr = final.objective.value(scores), final.objective.stderr(scores)
    return VerdictRow(trial, role, scores, value, stderr, rates_document(items))
