"""`mergesmith search`: from search.yaml to best.yaml."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from mergesmith.errors import UserError

from ...merge_ops import Recipe
from ..config import RunConfig, load_config
from ..opening import open_pool
from ..run_folder.lock import process
from ..run_folder.provenance import provenance
from ..run_folder.run_folder import BEST, RunDir, config_root, is_run
from ..search.leaderboard import Plan
from ..search.scorer_choice import settle_scorers
from ..search.study import Study
from ..search.verdict import Final, Verdict
from ..session.gc_pause import collecting_later
from ..session.session import Options, Session
from ..stop import RunFailedError, StoppedError
from ..terminal.progress import Report
from ..terminal.tables import print_verdict
from .best_recipe import best_recipe
from .overrides import Overrides, print_warnings


def run_search(path: Path, *, resume: bool, overrides: Overrides, options: Options, console: Console) -> Verdict:
    """Run or resume a search and print its result.

    Raises:
        UserError: the configuration, a source or a task is at fault, or the disk refuses.
        RunFailedError: nothing could be scored.
    """
    config = overrides.apply(load_config(path))
    root = config_root(path)
    output = root / config.output
    if overrides.output is None and is_run(path.parent):
        output = path.parent  # its own copy of search.yaml was given; it may have moved since that was written
    # Whether the folder can be used is known before minutes go into loading models and tasks.
    resume = resume and is_run(output)  # what is submitted again unchanged says --resume from the first time on
    rundir = RunDir.resume(output, config, root) if resume else RunDir.create(output, config, root)
    try:
        return _run(config, root, rundir, options, console)
    except BaseException:
        if not resume and not rundir.trials():
            rundir.discard()  # a run that never began is no run: correct the fault and start again
        raise
    finally:
        rundir.close()


def _run(config: RunConfig, root: Path, rundir: RunDir, options: Options, console: Console) -> Verdict:
    report = Report(console)
    rundir.says = report.says
    try:
        return _search(config, root, rundir, options, report)
    finally:
        with suppress(StoppedError, UserError):  # the disk is full, or refuses
            rundir.note("driver", state="stopped", **process())


def _search(config: RunConfig, root: Path, rundir: RunDir, options: Options, report: Report) -> Verdict:
    console = report.console
    with collecting_later():
        session, pool = open_pool(config, root, rundir, options, report)
    try:
        with collecting_later():  # the tasks are loaded
            rundir.check_same(session.ingredients())
        plan = Plan(config, session.space, session.suite.entries, session.baselines)
        rundir.note("driver", state="started", **process(), baselines=len(plan.baselines))
        print_warnings(console, pool.call(Session.task_warnings))
        settle_scorers(pool, rundir, session, console)
        with report:
            study = Study(plan, rundir, pool, report)
            study.run()
            report.says("choosing the winner on the select items, then opening the report items")
            final = Final(study.standing, study.dispatcher, session.suite.scorers, report.says)
            verdict = final.run()
            facts = pool.call(_provenance, verdict.winner.recipe)
    finally:
        pool.close()
    scored = final.digests.get(verdict.winner.number)
    again = (facts["device"], facts["weights_digest"])
    if scored is not None and scored[0] == again[0] and scored != again:
        raise RunFailedError(f"the winner's weights came out differently when merged again: {again[1]}; please report")
    best = rundir.path / BEST
    recipe = best_recipe(verdict, session, final.objective, rundir, facts)
    rundir.write_text(BEST, recipe.to_yaml())
    print_verdict(console, verdict, session.suite.entries, study.trials, best)
    return verdict


def _provenance(session: Session, recipe: Recipe) -> dict[str, Any]:
    return provenance(recipe, session.bank)
