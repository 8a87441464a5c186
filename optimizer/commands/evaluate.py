"""`mergesmith eval`: scores a recipe or a model on the tasks of a search.yaml."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ...evaluators import Part, Score, TaskEntry
from ...merge_ops import Recipe, Source, read_recipe
from ..config import RunConfig, load_config
from ..run_folder.file_names import SCORING
from ..run_folder.run_folder import config_root
from ..search.best_recipe import CHAT_DATE, SCORING_DTYPE
from ..search.objective import Objective, scores_of
from ..search.scorer_choice import recorded_plan
from ..session.options import Options
from ..session.session import Session
from ..terminal.console import print_json
from ..terminal.score_table import ScoreTable


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model or recipe on one part of the items; `value` is the objective, NaN if a task has no scale.

    `entries` are the tasks, `scores` maps their names to scores.
    """

    part: Part
    entries: tuple[TaskEntry, ...]
    scores: Mapping[str, Score]
    value: float
    stderr: float


def evaluation_document(target: str, found: Evaluation) -> dict[str, Any]:
    """Return the scores of a target as plain values."""
    tasks = {entry.name: {"metric": entry.metric, **vars(found.scores[entry.name])} for entry in found.entries}
    objective = {"value": found.value, "stderr": found.stderr}
    return {"target": target, "part": found.part, "objective": objective, "tasks": tasks}


def score_target(
    target: Recipe | str | Path,
    config: RunConfig,
    root: Path,
    *,
    part: Part,
    options: Options,
    recorded: Path | None = None,
) -> Evaluation:
    """Score a recipe, recipe file, checkpoint folder or hub id; `root` is what the configuration's paths refer to.

    `recorded` is the scoring.json of the run that the configuration belongs to; the target is scored as in that run.

    Raises:
        UserError: the configuration, a task or the target is at fault.
    """
    path = Path() if isinstance(target, Recipe) else Path(target)
    if isinstance(target, Recipe):
        recipe = target
    elif path.is_file():
        recipe = read_recipe(path)
    else:
        recipe = Recipe("passthrough", models=(Source(str(target)),))
    session = Session(config.dated(recipe.facts.get(CHAT_DATE)), root, options)
    if recorded is not None:
        session.hold_in(recorded_plan(recorded)[0].dtype)
    elif SCORING_DTYPE in recipe.facts:
        session.hold_in(recipe.facts[SCORING_DTYPE])
    session.bank.open(recipe.references(), roots=(Path.cwd(), path.parent) if path.is_file() else (Path.cwd(),))
    session.check_tokenizer(recipe, "the recipe" if isinstance(target, Recipe) else str(target))
    entries = session.suite.entries
    scores = scores_of(entries, session.candidate.evaluate(recipe, part))
    objective = Objective(entries)
    unscaled = all(entry.bounded for entry in entries if entry.weight > 0)
    value, stderr = (objective.value(scores), objective.stderr(scores)) if unscaled else (math.nan, math.nan)
    return Evaluation(part, entries, scores, value, stderr)


def recorded_scoring(config: Path) -> Path | None:
    """Return the scoring.json beside a search.yaml that is a run's copy; else None."""
    path = config.parent / SCORING
    return path if path.is_file() else None


def run_eval(
    target: str, *, config: Path, part: Part, options: Options, console: Console, as_json: bool = False
) -> None:
    """Score a model or a recipe on the tasks of a search.yaml and print a table, or JSON.

    Raises:
        UserError: the configuration, a task or the target is at fault.
    """
    recorded = recorded_scoring(config)
    found = score_target(
        target, load_config(config), config_root(config), part=part, options=options, recorded=recorded
    )
    if as_json:
        print_json(evaluation_document(target, found))
        return
    table = ScoreTable(f"Scores on the {part} items", found.entries, console)
    table.add(target, found.scores, found.value, found.stderr)
    table.print()
    if part == "report":
        console.print(
            "These are the report items: a model chosen by them needs other items for an unbiased score.",
            highlight=False,
        )
