"""The scorers of a run: chosen before its first trial, recorded, and the same after a resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mergesmith.errors import UserError

from ...evaluators import ScoringError, ScoringPlan
from ..pools import Pool
from ..run_folder.atomic_files import write_json
from ..run_folder.file_names import SCORING
from ..run_folder.run_folder import RunFolder
from ..session.session import Session


def settle_scorers(pool: Pool, run_folder: RunFolder, session: Session, console: Console) -> None:
    """Choose the scorers of a new run and tell of it, or take those that the run began with.

    Those were found on one kind of device with certain versions; where these have changed all is checked again. Where
    none of the models can be scored nothing is settled: their trials will say why. `session` is the driver's, which
    keeps the plan for the report.

    Raises:
        UserError: the record is damaged.
    """
    path, here = run_folder.path / SCORING, pool.call(Session.scored_with)
    if path.is_file():
        plan, sentences, then = recorded_plan(path)
        changed = [f"{name} was {then.get(name)} and is {now}" for name, now in here.items() if then.get(name) != now]
        if not changed:
            session.suite.use(plan)
            pool.use(plan)
            tell(console, sentences)
            return
        tell(console, [f"the scorers are checked again: {', '.join(changed)}"])
    try:
        found = pool.call(checked_scorers)
    except ScoringError as error:
        _warn(console, error)
        return
    write_json(path, {"schema_version": 1, **found, "made_with": here})
    session.suite.use(plan := ScoringPlan.from_document(found))
    pool.use(plan)
    tell(console, found["check"])


def checked_scorers(session: Session) -> dict[str, Any]:
    """Check the scorers; the plan as a document, and under "check" what was found, in words.

    Raises:
        ScoringError: none of the models can be scored.
    """
    report = session.check_scorers()
    return {**report.plan.to_document(), "check": list(report.sentences())}


def recorded_plan(path: Path) -> tuple[ScoringPlan, list[str], dict[str, Any]]:
    """The plan of a run, what its check found, and what it was made with.

    Raises:
        UserError: the file is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return ScoringPlan.from_document(document), list(document["check"]), dict(document.get("made_with", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); remove it, and the scorers are chosen again"
        ) from None


def print_scorers(session: Session, console: Console) -> None:
    """Check the scorers and print what each task is scored by."""
    try:
        tell(console, checked_scorers(session)["check"])
    except ScoringError as error:
        _warn(console, error)


def _warn(console: Console, error: ScoringError) -> None:
    console.print(f"warning: no model can be scored: {error}", style="yellow", highlight=False, markup=False)


def tell(console: Console, sentences: Sequence[str]) -> None:
    """A line for each."""
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
