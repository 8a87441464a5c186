"""The scorers of a run: chosen before its first trial, recorded, and the same after a resume."""

from __future__ import annotations

import json

from rich.console import Console

from ..evaluators import ScoringError, ScoringPlan
from .rundir import SCORING, RunDir, write_json
from .session import Session


def settle_scorers(session: Session, rundir: RunDir, console: Console) -> None:
    """Choose the scorers of a new run and tell of it, or take those that the run began with.

    Where none of the models can be scored nothing is settled: their trials will say why.
    """
    path = rundir.path / SCORING
    if path.is_file():
        session.suite.use(ScoringPlan.from_document(json.loads(path.read_text(encoding="utf-8"))))
        return
    plan = print_scorers(session, console)
    if plan is not None:
        write_json(path, {"schema_version": 1, **plan})


def print_scorers(session: Session, console: Console) -> dict[str, object] | None:
    """Check the scorers, print what each task is scored by, and return the plan with what was found."""
    try:
        report = session.check_scorers()
    except ScoringError as error:
        console.print(f"warning: no model can be scored: {error}", style="yellow", highlight=False, markup=False)
        return None
    sentences = list(report.sentences())
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return {**report.plan.to_document(), "check": sentences}
