"""The choice of a run's scorers before its first trial. A resumed run keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
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
    """Choose the scorers of a new run and print them, or use those that the run began with.

    Scorers were chosen on one kind of device with certain library versions; if these have changed, all are checked
    again, in the dtype that the run began with. If no model can be scored, no scorers are chosen, and the trials record
    the reason. `session` is the driver's session, which needs the plan for the verdict.

    Raises:
        UserError: scoring.json is damaged.
    """
    path, current, plan = run_folder.path / SCORING, pool.call(Session.scored_with), None
    if path.is_file():
        plan, sentences, recorded = recorded_plan(path)
        pairs = ((name, recorded.get(name), now) for name, now in current.items())
        changed = [f"{name} was {before} and is {now}" for name, before, now in pairs if before != now]
        if not changed:
            session.use(plan)
            pool.use(plan)
            print_lines(console, sentences)
            return
        print_lines(console, [f"the scorers are checked again: {', '.join(changed)}"])
    try:
        document = pool.call(checked_scorers, plan)
    except ScoringError as error:
        _warn(console, error)
        return
    write_json(path, {"schema_version": 1, **document, "made_with": current})
    session.use(plan := ScoringPlan.from_document(document))
    pool.use(plan)
    print_lines(console, document["check"])


def checked_scorers(session: Session, before: ScoringPlan | None = None) -> dict[str, Any]:
    """Check the scorers; return the plan as a document, with the findings as sentences under "check".

    `before` is the plan that a resumed run began with, whose dtype is kept.

    Raises:
        ScoringError: no model can be scored.
    """
    if before is not None:
        session.hold_in(before.dtype)
    report, dtype = session.check_scorers(), session.scoring_dtype
    plan = replace(report.plan, dtype=dtype.name)
    return {**plan.to_document(), "check": [*filter(None, [dtype.sentence]), *report.sentences()]}


def recorded_plan(path: Path) -> tuple[ScoringPlan, list[str], dict[str, Any]]:
    """Return a run's scoring plan, the findings of its check, and the versions and device of the check.

    Raises:
        UserError: the file is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return ScoringPlan.from_document(document), list(document["check"]), dict(document.get("made_with", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); remove it to choose the scorers again"
        ) from None


def print_scorers(session: Session, console: Console) -> None:
    """Check the scorers and print the scorer of each task."""
    try:
        print_lines(console, checked_scorers(session)["check"])
    except ScoringError as error:
        _warn(console, error)


def _warn(console: Console, error: ScoringError) -> None:
    console.print(f"warning: no model can be scored: {error}", style="yellow", highlight=False, markup=False)


def print_lines(console: Console, sentences: Sequence[str]) -> None:
    """Print each sentence on one line."""
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
