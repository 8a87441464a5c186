"""`search`, `load_run`, `merge` and `evaluate`: the commands of the same names as functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ...evaluators import Part
from ...merge_ops import Recipe, read_recipe
from ..commands.evaluate import Evaluation, recorded_scoring, score_target
from ..commands.inputs.config_checks import check_names, checked_config
from ..commands.inputs.overrides import Overrides
from ..commands.merge import MergeCheck, MergeOptions, merge_recipe
from ..commands.search import located, run_config
from ..config import RunConfig, parse_config
from ..run_folder.run_folder import RunFolder, config_root
from ..run_folder.trial import Trial
from ..session.options import Options
from ..terminal.console import make_console
from ..terminal.progress import Report
from .callbacks.tracker import Tracker
from .run import Run

ConfigLike = RunConfig | Mapping[str, Any] | str | Path
Callback = Callable[[Run, Trial], object]


def search(
    config: ConfigLike,
    *,
    resume: bool = False,
    output: str | Path | None = None,
    trials: int | None = None,
    time_limit: float | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    allow_code_execution: bool = False,
    trust_remote_code: bool = False,
) -> Run:
    """Search for the best merge, as `mergesmith search` does, and return the finished run.

    Args:
        config: a search.yaml, or its content as a mapping or `SearchConfig`, whose relative paths then refer to the
            working directory.
        resume: continue the run in the output folder, if there is one; nothing is done if it is complete.
        output: the run's folder; overrides `output`.
        trials: the number of candidates to propose; overrides `search.trials`.
        time_limit: seconds after which no more candidates are proposed; overrides `search.time_limit`.
        callbacks: each is called as `callback(run, trial)` after every finished trial, baselines included and probes
            left out, in the order in which trials finish. `run.stop()` ends the search; an exception ends it at once,
            with the trial recorded. A `Tracker` is also told of the end.
        progress: print progress and result.
        allow_code_execution: let tasks run code that the model wrote.
        trust_remote_code: run code that a checkpoint contains.

    Raises:
        UserError: the configuration, a source or a task is at fault, or the run's folder cannot be written.
        RunFailedError: nothing could be scored.
    """
    overrides = Overrides(trials, time_limit, None if output is None else Path(output))
    given, root, folder = _located(config, overrides)
    called = _Callbacks(tuple(callbacks))
    run_config(
        given,
        root,
        folder,
        resume=resume,
        options=Options(allow_code_execution, trust_remote_code),
        report=Report(make_console() if progress else Console(quiet=True)),
        on_trial=called if callbacks else None,
    )
    run = Run(folder)
    for callback in callbacks:
        if isinstance(callback, Tracker):
            callback.finish(run)
    return run


def load_run(path: str | Path) -> Run:
    """Open a run's folder, whether its search has ended, is running or was interrupted.

    Raises:
        UserError: the folder holds no run.
    """
    return Run(path)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe in mergekit's YAML, such as a run's best.yaml.

    Raises:
        UserError: the file cannot be read, or is invalid; all faults are listed.
    """
    return read_recipe(Path(path))


def merge(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    seed: int | None = None,
    dtype: str | None = None,
    out_dtype: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
    model_card: bool = True,
    trust_remote_code: bool = False,
) -> MergeCheck:
    """Merge a recipe into a checkpoint folder, as `mergesmith merge` does.

    Args:
        recipe: a recipe, whose relative paths refer to the working directory, or a recipe file.
        out: the folder to write.
        seed: seed of random masks; overrides the recipe.
        dtype: dtype to which inputs are cast; overrides the recipe.
        out_dtype: dtype of the written weights; overrides the recipe.
        device: `cpu`, `cuda` or `auto`; by default as recorded, else `cpu`.
        overwrite: replace the contents of `out`.
        model_card: write a README.md too.
        trust_remote_code: run code that a checkpoint contains.

    Returns:
        The written checkpoint (`written.folder`, `written.digest`), compared with the digest that the recipe records.

    Raises:
        UserError: the recipe, a source or an option is at fault, or the folder cannot be written.
    """
    options = MergeOptions(
        seed=seed,
        dtype=dtype,
        out_dtype=out_dtype,
        device=device,
        overwrite=overwrite,
        write_card=model_card,
        trust_remote_code=trust_remote_code,
    )
    path = Path("recipe") if isinstance(recipe, Recipe) else Path(recipe)
    given = recipe if isinstance(recipe, Recipe) else read_recipe(path)
    return merge_recipe(given, path, Path(out), options)


def evaluate(
    target: Recipe | str | Path,
    config: ConfigLike,
    *,
    part: Part = "search",
    allow_code_execution: bool = False,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Score a model or a recipe on one part of the items, as `mergesmith eval` does.

    Args:
        target: a checkpoint folder, hub id or recipe file, or a recipe.
        config: the tasks, as in `search`.
        part: `search`, `select` or `report`. A model chosen by the report items needs others for an unbiased score.
        allow_code_execution: let tasks run code that the model wrote.
        trust_remote_code: run code that a checkpoint contains.

    Returns:
        A mapping like that of lm-eval: `results` is task -> `METRIC,FILTER` and `METRIC_stderr,FILTER`, `n-samples`
        is task -> number of items; and the weighted mean of all tasks as `objective`, None if a task has no scale
        without a search.

    Raises:
        UserError: the configuration, a task or the target is at fault.
    """
    if isinstance(config, (str, Path)):
        path = Path(config)
        given, root, recorded = checked_config(path), config_root(path), recorded_scoring(path)
    else:
        (given, root, _), recorded = _located(config, Overrides()), None
    options = Options(allow_code_execution, trust_remote_code)
    return _document(score_target(target, given, root, part=part, options=options, recorded=recorded))


def _document(evaluation: Evaluation) -> dict[str, Any]:
    results: dict[str, dict[str, float | None]] = {}
    for entry in evaluation.entries:
        score, name = evaluation.scores[entry.name], f"{entry.metric},{entry.filter}"
        stderr = score.stderr if math.isfinite(score.stderr) else None
        results[entry.name] = {name: score.value, f"{entry.metric}_stderr,{entry.filter}": stderr}
    return {
        "results": results,
        "n-samples": {name: score.n for name, score in evaluation.scores.items()},
        "objective": evaluation.value if math.isfinite(evaluation.value) else None,
        "objective_stderr": evaluation.stderr if math.isfinite(evaluation.stderr) else None,
        "part": evaluation.part,
    }


def _located(config: ConfigLike, overrides: Overrides) -> tuple[RunConfig, Path, Path]:
    """Return the configuration, the folder that its paths are relative to, and the run's folder."""
    if isinstance(config, (str, Path)):
        return located(Path(config), overrides)
    given = config if isinstance(config, RunConfig) else parse_config(dict(config), where="the configuration")
    given = overrides.apply(given)
    check_names(given, Path.cwd(), where="the configuration")
    return given, Path.cwd(), Path.cwd() / given.output


class _Callbacks:
    """Calls the callbacks of a search with its run."""

    def __init__(self, callbacks: tuple[Callback, ...]) -> None:
        self.callbacks = callbacks
        self._run: Run | None = None

    def __call__(self, run_folder: RunFolder, trial: Trial) -> bool:
        self._run = self._run or Run(run_folder.path)
        for callback in self.callbacks:
            callback(self._run, trial)
        return self._run.stop_requested
