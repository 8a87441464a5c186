"""`mergesmith search`: from search.yaml to best.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ..evaluators import Part, Scores
from ..merge_ops import WeightsDigest
from .best import best_recipe
from .config import RunConfig, load_config
from .loading import load_sources
from .pools import LocalPool
from .progress import Report
from .rundir import BEST, RunDir, config_root, write_text
from .scoring import settle_scorers
from .session import Options, Session
from .study import Plan, RunFailedError, Study
from .table import print_verdict
from .trial import Trial
from .verdict import Final, Verdict


@dataclass(frozen=True)
class Overrides:
    """What the command line changes in search.yaml; None leaves it."""

    trials: int | None = None
    time_limit: float | None = None
    output: Path | None = None

    def apply(self, config: RunConfig) -> RunConfig:
        """The configuration with the changes."""
        search: dict[str, Any] = {}
        if self.trials is not None:
            search["trials"] = self.trials
        if self.time_limit is not None:
            search["time_limit"] = self.time_limit
        update: dict[str, Any] = {"search": config.search.model_copy(update=search)}
        if self.output is not None:
            update["output"] = str(self.output.resolve())
        return config.model_copy(update=update)


def run_search(path: Path, *, resume: bool, overrides: Overrides, options: Options, console: Console) -> Verdict:
    """Run or resume a search and print its result.

    Raises:
        UserError: the configuration, a source or a task is at fault, or the disk refuses.
        RunFailedError: nothing could be scored.
    """
    config = overrides.apply(load_config(path))
    root = config_root(path)
    output = root / config.output
    # Whether the folder can be used is known before minutes go into loading models and tasks.
    rundir = RunDir.resume(output, config, root) if resume else RunDir.create(output, config, root)
    try:
        return _run(config, root, rundir, options, console)
    except BaseException:
        if not resume and not rundir.trials():
            rundir.discard()  # a run that never began is no run: correct the fault and start again
        raise
    finally:
        rundir.close()


def print_warnings(console: Console, session: Session) -> None:
    """What the user should know about the tasks, before the run."""
    for warning in session.task_warnings():
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _run(config: RunConfig, root: Path, rundir: RunDir, options: Options, console: Console) -> Verdict:
    session = Session(config, root, options)
    rundir.check_same(session.ingredients())
    load_sources(session, console)
    plan = Plan(config, session.space, session.suite.entries, session.baselines)
    print_warnings(console, session)
    settle_scorers(session, rundir, console)
    study = Study(plan, rundir, LocalPool(session), report := Report(console))
    with report:
        study.run()
        report.says("choosing the winner on the select items, then opening the report items")

        scored: dict[int, str] = {}  # digests of the weights as they were scored

        def evaluate(trial: Trial, part: Part) -> Scores:
            digest = WeightsDigest()
            scores = session.evaluate(trial.recipe, part, digest=digest)
            scored[trial.number] = digest.hex
            return scores

        final = Final(study, evaluate, session.suite.scorers)
        verdict = final.run()
    best = rundir.path / BEST
    recipe = best_recipe(verdict, session, final.objective, rundir)
    claimed = recipe.facts["weights_digest"]
    if scored.get(verdict.winner.number, claimed) != claimed:
        raise RunFailedError(f"the winner's weights came out differently when merged again: {claimed}; please report")
    write_text(best, recipe.to_yaml())
    print_verdict(console, verdict, session.suite.entries, study.trials, best)
    return verdict
