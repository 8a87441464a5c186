"""`mergesmith plan`: checks a search.yaml and reports what its run would take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ...evaluators import PARTS, Block, Scores, ScoringError, Suite, join
from ...merge_ops import MergeError, kernel_report
from ...search_spaces import BASE, OutsideSpaceError, parent_name
from ..config import RunConfig
from ..run_folder.run_folder import config_root
from ..samplers import make_sampler
from ..search.objective import Objective
from ..search.racing import why_off
from ..search.sanity import ScoredModel, sanity_warnings
from ..search.scorer_choice import print_scorers
from ..search.verdict.final_phase import FINALISTS, items_afterwards
from ..session.options import Options
from ..session.session import Session
from ..session.source_placement import decomposed_bytes
from ..terminal.console import print_warnings
from ..terminal.durations import duration
from ..terminal.score_table import ScoreTable
from .inputs.open_session import open_session

SCORED_ITEMS = 300  # at least, with --score


def run_plan(config: RunConfig, path: Path, *, options: Options, score: bool, console: Console) -> None:
    """Check a search.yaml and print the run's tasks, search space, baselines, memory and time.

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
    _costs(session, console, before)


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
    blocks = [block for kind in _search_blocks(session.suite) for block in _first(kind, SCORED_ITEMS)]
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


def _search_blocks(suite: Suite) -> list[list[Block]]:
    """Return the blocks of the search part that are raced, and the others; without an empty list."""
    raced = {leaf.name for entry in suite.entries if entry.raced for leaf in entry.leaves}
    kinds: dict[bool, list[Block]] = {}
    for block in suite.blocks("search"):
        kinds.setdefault(block.items.keys() <= raced, []).append(block)
    return list(kinds.values())


def _first(blocks: Sequence[Block], items: int) -> Sequence[Block]:
    """Return the first blocks that have so many items together, or all."""
    sizes = accumulate(len(block) for block in blocks)
    return blocks[: next((n for n, size in enumerate(sizes, start=1) if size >= items), None)]


def _seconds_to_score(session: Session) -> float:
    """Return the time to score the live model on the search part, measured on its largest blocks."""
    total = 0.0
    for blocks in _search_blocks(session.suite):
        largest = max(blocks, key=len)
        session.suite.score(session.live.model, largest)  # warm-up
        start = time.perf_counter()
        session.suite.score(session.live.model, largest)
        seconds = time.perf_counter() - start
        total += seconds * max(1, sum(len(block) for block in blocks)) / max(1, len(largest))
    return total


def _racing(session: Session) -> str:
    """Return what racing saves, in words."""
    entries = session.suite.entries
    if (off := why_off(session.config.search.racing, entries)) is not None:
        return f"no candidate is dropped early: {off}"
    last = [entry.name for entry in entries if not entry.raced]
    others = f"; those are not scored on {', '.join(last)}" if last else ""
    return f"less if candidates are dropped early{others}"


def _costs(session: Session, console: Console, before: float) -> None:
    """Measure and print memory and time; `before` is the time that loading and the check of the scorers took."""
    first = session.baselines[0][1]
    session.candidate.timed_load(first)  # builds the model, once per run
    # The first round includes one-time work (statistics, compiling); the second is the cost of every candidate.
    once, merge = (max(session.candidate.timed_load(recipe) for _, recipe in session.baselines) for _ in range(2))
    matrices = decomposed_bytes(session.bank, session.config.base_model, session.space.methods) / 1e9
    kept = f"; merged matrices of methods that decompose: {matrices:.2f} GB" if matrices else ""
    score = _seconds_to_score(session)
    source = session.source_bytes() / 1e9
    model = sum(p.numel() * p.element_size() for p in session.live.model.parameters()) / 1e9
    devices = f"Device{'s' if len(session.devices) > 1 else ''}: {', '.join(map(str, session.devices))}"
    for line in (
        f"{devices}. Sources: {source:.2f} GB, {session.placement.words}; live model: {model:.2f} GB{kept}.",
        *session.placement.sentences(),
        *session.pinning.sentences(session.bank),
        kernel_report(session.device.type),
        f"A candidate: {merge:.2f} s to merge ({once:.2f} s the first of a kind), {score:.2f} s to score.",
        f"Statistics of the sources: {session.bank.known_bytes / 1e6:.1f} MB so far.",
        *_times(session, before, merge, score),
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _times(session: Session, before: float, merge: float, score: float) -> Iterator[str]:
    """Yield how long each phase of the run takes: loading, baselines, candidates, verdict; and all of them."""
    baselines, trials = len(session.baselines), session.config.search.trials
    items = {part: sum(session.suite.counts(part).values()) for part in PARTS}
    per_item = score / max(1, items["search"])
    verdict = items_afterwards(session.suite, len(session.config.models)) * per_item + (FINALISTS + baselines) * merge
    phases = {
        "loading and checking the scorers": before,
        f"{baselines} baselines": baselines * (merge + score),
        f"{trials} candidates": trials * (merge + score),
        "the verdict": verdict,
    }
    parts = ", ".join(f"{duration(seconds)} for {name}" for name, seconds in phases.items())
    yield f"Time: about {duration(sum(phases.values()))}: {parts}; {_racing(session)}."
