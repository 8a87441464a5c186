"""`mergesmith plan`: checks a search.yaml and reports what its run would take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ...evaluators import PARTS, Block, Scores, ScoringError, join
from ...merge_ops import MergeError
from ...search_spaces import BASE, OutsideSpaceError, parent_name
from ..config import RunConfig
from ..run_folder.run_folder import config_root
from ..samplers import make_sampler
from ..search.objective import Objective
from ..search.sanity import ScoredModel, sanity_warnings
from ..search.scorer_choice import print_scorers
from ..session.options import Options
from ..session.session import Session
from ..terminal.console import print_warnings
from ..terminal.score_table import ScoreTable
from .inputs.open_session import open_session
from .plan_costs import Costs, measure_costs, raced_and_other_blocks

SCORED_ITEMS = 300  # at least, with --score


def run_plan(config: RunConfig, path: Path, *, options: Options, score: bool, console: Console) -> dict[str, Any]:
    """Check a search.yaml; print and return the run's tasks, search space, baselines, memory and time.

    The time is measured: the baselines are merged, and the largest block of items is scored. With `score`, the base and
    the models are scored on the first search items, and suspicious scores are reported.

    Raises:
        UserError: the configuration, a source or a task is at fault.
    """
    start = time.perf_counter()
    session = open_session(config, config_root(path), options)
    make_sampler(config.search.sampler, session.space, config.search.seed)
    console.print(_tasks(session))
    console.print(_space(session))
    _baselines(session, console)
    print_warnings([*session.space_warnings(), *session.task_warnings()])
    print_scorers(session, console)
    before = time.perf_counter() - start
    if score:
        _scores(session, console)
    costs = measure_costs(session, before)
    for line in costs.sentences(session):
        console.print(line, highlight=False, soft_wrap=True)
    return _document(session, costs)


def _tasks(session: Session) -> Table:
    table = Table(title="Tasks", title_justify="left")
    for column in ("task", "metric", "weight", *(f"{part} items" for part in PARTS)):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    counts = {part: session.suite.counts(part) for part in PARTS}
    for entry in session.suite.entries:
        arrow = "higher" if entry.sign > 0 else "lower"
        items = ["?" if entry.python else str(counts[part][entry.name]) for part in PARTS]
        table.add_row(entry.name, f"{entry.metric} ({arrow} is better)", f"{entry.weight:g}", *items)
    return table


def _space(session: Session) -> Table:
    table = Table(title="Search space", title_justify="left")
    table.add_column("method")
    table.add_column("dimensions", justify="right")
    table.add_column("of which")
    for method in session.space.methods:
        dimensions = session.space.dimensions(method)
        kinds = Counter(dimension.name.partition("[")[0].split(".")[1] for dimension in dimensions)
        table.add_row(method, str(len(dimensions)), ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
    return table


def _baselines(session: Session, console: Console) -> None:
    console.print("Scored first:")
    for name, recipe in session.baselines:
        try:
            session.space.params(recipe)
            note = ""
        except OutsideSpaceError as reason:
            note = f" (not reported to the sampler: {reason})"
        console.print(f"  {name}{note}", highlight=False, markup=False, soft_wrap=True)


def _scores(session: Session, console: Console) -> None:
    """Score the base and the models on the first blocks of search items, and print scores and warnings."""
    blocks = [block for kind in raced_and_other_blocks(session.suite) for block in _first(kind, SCORED_ITEMS)]
    names = (BASE, *(parent_name(model) for model in session.config.models))
    scored: dict[str, Scores] = {}
    for name, recipe in session.baselines:
        if name in names:
            try:
                session.candidate.load(recipe)
                scored[name] = join(list(session.candidate.score(blocks)))
            except (MergeError, ScoringError) as error:
                print_warnings([f"{name} cannot be scored: {error}"])
    if not scored:
        return
    present = next(iter(scored.values())).items
    entries = tuple(e for e in session.suite.entries if any(leaf.name in present for leaf in e.leaves))
    models = [ScoredModel.of(name, entries, items) for name, items in scored.items()]
    objective = Objective.fixed_by(entries, [model.scores for model in models if model.name != BASE])
    items = sum(len(leaf.ids) for leaf in present.values())
    table = ScoreTable(f"Scores on {items} search items", entries, console)
    for model in models:
        value, stderr = objective.value(model.scores), objective.stderr(model.scores)
        table.add(model.name, model.scores, value, stderr)
    table.print()
    print_warnings(sanity_warnings(models, entries, session.suite_facts()))


def _first(blocks: Sequence[Block], items: int) -> Sequence[Block]:
    """Return the first blocks that have so many items together, or all."""
    sizes = accumulate(len(block) for block in blocks)
    return blocks[: next((n for n, size in enumerate(sizes, start=1) if size >= items), None)]


def _document(session: Session, costs: Costs) -> dict[str, Any]:
    counts = {part: session.suite.counts(part) for part in PARTS}
    return {
        "tasks": {
            entry.name: {
                "metric": entry.metric,
                "higher_is_better": entry.sign > 0,
                "weight": entry.weight,
                "items": {part: None if entry.python else counts[part][entry.name] for part in PARTS},
            }
            for entry in session.suite.entries
        },
        "methods": {
            method: [dimension.name for dimension in session.space.dimensions(method)]
            for method in session.space.methods
        },
        "baselines": [name for name, _ in session.baselines],
        "scorers": session.suite.scorers,
        "costs": costs.to_document(),
    }
