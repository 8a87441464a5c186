"""`mergesmith eval`: scores a recipe or a model on the tasks of a search.yaml."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console

from ...evaluators import Part
from ...merge_ops import Recipe, Source, read_recipe
from ..config import load_config
from ..run_folder.file_names import SCORING
from ..run_folder.run_folder import config_root
from ..search.best_recipe import CHAT_DATE, SCORING_DTYPE
from ..search.objective import Objective, scores_of
from ..search.scorer_choice import recorded_plan
from ..session.options import Options
from ..session.session import Session
from ..terminal.score_table import ScoreTable


def run_eval(target: str, *, config: Path, part: Part, options: Options, console: Console) -> None:
    """Score a model or a recipe on the tasks of a search.yaml and print a table.

    Raises:
        UserError: the configuration, a task or the target is at fault.
    """
    path = Path(target)
    if path.is_file():
        recipe = read_recipe(path)
        roots = (Path.cwd(), path.parent)
    else:
        recipe = Recipe("passthrough", models=(Source(target),))
        roots = (Path.cwd(),)
    session = Session(load_config(config).dated(recipe.facts.get(CHAT_DATE)), config_root(config), options)
    if (recorded := config.parent / SCORING).is_file():  # the run's copy of search.yaml: score as the run does
        session.hold_in(recorded_plan(recorded)[0].dtype)
    elif SCORING_DTYPE in recipe.facts:
        session.hold_in(recipe.facts[SCORING_DTYPE])
    session.bank.open(recipe.references(), roots=roots)
    session.check_tokenizer(recipe, target)
    scores = scores_of(session.suite.entries, session.candidate.evaluate(recipe, part))
    objective = Objective(session.suite.entries)
    table = ScoreTable(f"Scores on the {part} items", session.suite.entries, console)
    unscaled = all(entry.bounded for entry in session.suite.entries if entry.weight > 0)
    value, stderr = (objective.value(scores), objective.stderr(scores)) if unscaled else (math.nan, math.nan)
    table.add(target, scores, value, stderr)
    table.print()
    if part == "report":
        console.print(
            "These are the report items: a model chosen by them needs other items for an unbiased score.",
            highlight=False,
        )
