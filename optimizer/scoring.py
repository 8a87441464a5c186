"""The scorers of a run: chosen before its first trial, recorded, and the same after a resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mergesmith.errors import UserError

from ..evaluators import ScoringError, ScoringPlan
from .environment import package_version
from .rundir import SCORING, RunDir, write_json
from .session import Session


def settle_scorers(session: Session, rundir: RunDir, console: Console) -> None:
    """Choose the scorers of a new run and tell of it, or take those that the run began with.

    Those were found on one kind of device with certain versions; where these have changed all is checked again. Where
    none of the models can be scored nothing is settled: their trials will say why.

    Raises:
        UserError: the record is damaged.
    """
    path, here = rundir.path / SCORING, made_with(session)
    if path.is_file():
        plan, sentences, then = recorded_plan(path)
        changed = [f"{name} was {then.get(name)} and is {now}" for name, now in here.items() if then.get(name) != now]
        if not changed:
            session.suite.use(plan)
            tell(console, sentences)
            return
        tell(console, [f"the scorers are checked again: {', '.join(changed)}"])
    found = print_scorers(session, console)
    if found is not None:
        write_json(path, {"schema_version": 1, **found, "made_with": here})


def made_with(session: Session) -> dict[str, str | None]:
    """What decides, beside the models and tasks, whether a scorer agrees with lm-eval's."""
    versions = {name: package_version(name) for name in ("torch", "transformers", "lm_eval")}
    return {"device": session.device.type, **versions}


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


def print_scorers(session: Session, console: Console) -> dict[str, object] | None:
    """Check the scorers, print what each task is scored by, and return the plan with what was found."""
    try:
        report = session.check_scorers()
    except ScoringError as error:
        console.print(f"warning: no model can be scored: {error}", style="yellow", highlight=False, markup=False)
        return None
    sentences = list(report.sentences())
    tell(console, sentences)
    return {**report.plan.to_document(), "check": sentences}


def tell(console: Console, sentences: Sequence[str]) -> None:
    """A line for each."""
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
