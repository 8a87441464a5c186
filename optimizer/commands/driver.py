"""The driver of a search: opens models, tasks and workers, runs the search, and writes best.yaml.

Imports everything that a search needs, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from mergesmith.errors import UserError

from ...merge_ops import Recipe
from ..config import RunConfig
from ..pools import LocalPool, Pool
from ..run_folder.answer_file import save_item_texts
from ..run_folder.file_names import BEST
from ..run_folder.lifecycle import check_ingredients
from ..run_folder.lock import process
from ..run_folder.provenance import provenance
from ..run_folder.run_folder import RunFolder
from ..run_folder.task_file import write_tasks
from ..run_folder.trial import Trial
from ..search.baseline_cache import BaselineCache
from ..search.best_recipe import best_recipe
from ..search.leaderboard import RunPlan
from ..search.sanity import report_sanity
from ..search.scorer_choice import settle_scorers
from ..search.study import Study
from ..search.verdict.control import Control
from ..search.verdict.final_phase import FinalPhase, items_afterwards
from ..search.verdict.reach_verdict import reach_verdict
from ..search.verdict.records import Verdict
from ..session.gc_pause import gc_paused
from ..session.load_sources import load_sources
from ..session.options import Options
from ..session.scored_as import ScoredAs
from ..session.session import Session
from ..session.versions import versions
from ..stop_signals import RunFailedError, StoppedError
from ..terminal.console import note, print_warnings
from ..terminal.progress import Report
from ..terminal.steps import Steps
from ..terminal.tables import print_verdict
from .inputs.open_session import open_session
from .report import print_report

OnTrial = Callable[[RunFolder, Trial], bool]
"""Called with the run after every finished trial except probes; returning True ends the search."""


def drive(
    config: RunConfig,
    root: Path,
    run_folder: RunFolder,
    options: Options,
    report: Report,
    *,
    on_trial: OnTrial | None = None,
) -> Verdict:
    """Run a new or resumed search to its end and print its result; arguments as in `run_config`.

    Raises:
        UserError, RunFailedError, StoppedError: as `run_search`.
    """
    try:
        return _search(config, root, run_folder, options, report, on_trial)
    finally:
        with suppress(StoppedError, UserError):  # the disk is full or failing
            run_folder.note("driver", state="stopped", **process())


def _search(
    config: RunConfig, root: Path, run_folder: RunFolder, options: Options, report: Report, on_trial: OnTrial | None
) -> Verdict:
    console = report.console
    note(console, f"opening the base and {_count(config.models, 'model')}")
    with gc_paused():
        session, pool = _open(config, root, run_folder, options, report)
    try:
        with gc_paused():
            note(console, f"loading {_count(config.tasks, 'task')}")
            check_ingredients(run_folder.path, session.ingredient_digests())
        write_tasks(run_folder.files, session.suite.entries)
        plan = RunPlan(config, session.space, session.suite.entries, session.baselines, weights_key=session.weights_key)
        run_folder.note("driver", state="started", **process(), baselines=len(plan.baselines))
        print_warnings([*session.space_warnings(), *pool.call(Session.task_warnings)])
        note(console, f"checking the scorers on the base and {_count(config.models, 'model')}")
        settle_scorers(pool, run_folder, session, console)
        cache = _cache(session)
        with report:
            check = partial(report_sanity, facts=session.suite_facts(), warn=print_warnings)
            called = None if on_trial is None else partial(on_trial, run_folder)
            study = Study(plan, run_folder, pool, report, baselines_done=check, cache=cache, on_trial=called)
            if study.recorded:
                report.announce(f"resuming after {len(study.recorded)} finished trials")
            report.expect_afterwards(items_afterwards(session.suite, len(config.models)))
            study.run()
        steps = Steps(report.announce, "models")
        final = FinalPhase(study.leaderboard, study.dispatcher, report.announce, cache=cache, progress=steps)
        save_item_texts(run_folder.files, session.suite.item_texts("report"))
        verdict = _verdict(study, final, pool, session, console)
        note(console, "merging the winner again, for the record")
        facts = pool.call(_provenance, verdict.winner.recipe)
    finally:
        pool.close()
    scored = final.digests.get(verdict.winner.number)
    again = (facts["device"], facts["weights_digest"])
    if scored is not None and scored[0] == again[0] and scored != again:
        raise RunFailedError(f"the winner's weights came out differently when merged again: {again[1]}; please report")
    best = run_folder.path / BEST
    recipe = best_recipe(verdict, session, final.objective, run_folder, facts)
    run_folder.files.write_text(BEST, recipe.to_yaml())
    print_verdict(console, verdict, session.suite.entries, study.trials, best)
    print_report(run_folder.path, console)
    return verdict


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _cache(session: Session) -> BaselineCache | None:
    """Return the cache of baselines' scores; None if scores may depend on more than the cache knows of.

    That is so with Python objectives, and with Ray, whose workers may have different devices.
    """
    config = session.config
    if not config.search.reuse_baselines or config.workers.pool != "local" or session.suite.plan is None:
        return None
    return None if any(entry.python for entry in session.suite.entries) else BaselineCache(ScoredAs(session))


def _verdict(study: Study, final: FinalPhase, pool: Pool, session: Session, console: Console) -> Verdict:
    """Run the control, if there is to be one, and reach the verdict on both searches."""
    with ExitStack() as stack:
        control = None
        if study.plan.config.search.control is not None:
            progress = Report(console, title="control")
            control = stack.enter_context(closing(Control(study, pool, progress)))
            with progress:
                control.run()
        final.announce("choosing the winner by search and select items, then opening the report items")
        return reach_verdict(study, final, control, scorers=session.suite.scorers)


def _open(
    config: RunConfig, root: Path, run_folder: RunFolder, options: Options, report: Report
) -> tuple[Session, Pool]:
    """Open the driver's session and the workers; with Ray, the driver needs no GPU and reads headers and tasks only.

    Raises:
        UserError: a source is missing, damaged or does not fit the others, or the Ray cluster cannot be reached.
    """
    if config.workers.pool == "local":
        session = open_session(config, root, options)
        load_sources(session, report.console)
        return session, LocalPool(session)
    from ..pools.ray_pool import RayPool  # imports Ray

    pool = RayPool(config, root, options, note=run_folder.note, announce=report.announce)  # opens the sources meanwhile
    try:
        workers = config.workers.model_copy(update={"device": "cpu", "gpus_per_worker": None})
        session = open_session(config.model_copy(update={"workers": workers}), root, options)
        pool.expect(session.ingredient_digests(), versions())
    except BaseException:
        pool.close()
        raise
    return session, pool


def _provenance(session: Session, recipe: Recipe) -> dict[str, Any]:
    return provenance(recipe, session.bank)
