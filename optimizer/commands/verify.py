"""`mergesmith verify`: merges a best.yaml again and compares weights and scores with its record."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mergesmith.errors import UserError

from ...evaluators import Scores, TaskEntry, score_checkpoint
from ...merge_ops import Recipe, read_recipe
from ..config import load_config
from ..run_folder.file_names import is_run
from ..run_folder.run_folder import RunFolder, config_root
from ..search.best_recipe import CHAT_DATE, SCORING_DTYPE
from ..search.objective import scores_of
from ..session.options import Options
from ..session.session import Session
from ..terminal.console import note
from .export import present_recipe
from .merge import MergeCheck, MergeOptions, merge_recipe

CHECKED = ("claimed", "rescored", "items", "flipped", "exact")  # of a `ScoreCheck`, in JSON
FLIPPED = 0.02  # share of items that rounding may flip in dtypes below float32, if margins are as small as rounding


@dataclass(frozen=True)
class ScoreCheck:
    """One task's recorded value compared with an independent score on the same items.

    Attributes:
        entry: the task.
        claimed: the recorded value.
        rescored: the new value.
        items: how many items were scored.
        flipped: on how many of them the two differ.
        exact: whether no item may differ.
    """

    entry: TaskEntry
    claimed: float
    rescored: float
    items: int
    flipped: int
    exact: bool

    @property
    def passed(self) -> bool:
        """Whether every item agrees; in dtypes below float32 the share FLIPPED may differ."""
        return self.flipped <= (0 if self.exact else FLIPPED * self.items)

    @property
    def sentence(self) -> str:
        """The outcome, for the user."""
        verdict = "ok" if self.passed else "DIFFERS"
        return (
            f"{verdict}: {self.entry.name} {self.entry.metric} {self.rescored:.6f}, recorded {self.claimed:.6f}; "
            f"{self.flipped} of {self.items} items differ"
        )


@dataclass(frozen=True)
class Verification:
    """A best.yaml that was merged and scored again; `changed` names the tasks that are not the recorded ones."""

    merged: MergeCheck
    changed: tuple[str, ...]
    checks: tuple[ScoreCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether the recipe gives the recorded weights and scores."""
        return self.merged.reproduced and not self.changed and all(check.passed for check in self.checks)

    def to_document(self) -> dict[str, Any]:
        """Return the verification as plain values."""
        merged = self.merged
        tasks = {
            check.entry.name: {"passed": check.passed, **{key: getattr(check, key) for key in CHECKED}}
            for check in self.checks
        }
        return {
            "passed": self.passed,
            "weights": {"reproduced": merged.reproduced, "digest": merged.written.digest, "recorded": merged.claim},
            "changed_tasks": list(self.changed),
            "tasks": tasks,
        }


def run_verify(path: Path, *, config: Path | None, options: Options, console: Console) -> Verification:
    """Merge a best.yaml, score the checkpoint with lm-eval's evaluation loop, and compare both with its record.

    Raises:
        UserError: the recipe records no run, or the run is gone and no --config is given.
    """
    recipe = read_recipe(path)
    run_folder = _recorded_run(recipe, path)
    if config is None and run_folder is None:
        raise UserError(f"{path}: the run that it records is missing; name its search.yaml with --config")
    recipe = recipe if run_folder is None else present_recipe(recipe, run_folder)
    settings = load_config(config) if config is not None else _existing(run_folder).config
    settings = settings.dated(recipe.facts.get(CHAT_DATE))
    session = Session(settings, config_root(config) if config is not None else _existing(run_folder).root, options)
    note(console, "merging")
    with tempfile.TemporaryDirectory(prefix="mergesmith-verify-") as folder:
        merging = MergeOptions(device=str(session.device), trust_remote_code=options.trust_remote_code)
        merged = merge_recipe(recipe, path, Path(folder) / "model", merging)
        console.print(merged.sentence, highlight=False, markup=False, soft_wrap=True)
        items = sum(session.suite.counts("report").values())
        note(console, f"scoring {items:,} report items with lm-eval")
        dtype = recipe.facts.get(SCORING_DTYPE)
        place = "balanced" if len(session.devices) > 1 else str(session.device)
        trust, written = options.trust_remote_code, merged.written.folder
        rescored = score_checkpoint(
            session.suite, written, "report", device=place, dtype=dtype, trust_remote_code=trust
        )
    trial = recipe.facts.get("found_by", {}).get("trial")
    recorded = None if run_folder is None or trial is None else run_folder.items(trial, "report")
    changed = [n for n, d in session.suite.digests().items() if recipe.facts.get("tasks", {}).get(n, d) != d]
    for name in changed:
        console.print(f"DIFFERS: the task '{name}' is not the one that was scored", highlight=False, markup=False)
    exact = (dtype or recipe.out_dtype or recipe.dtype) in (None, "float32", "float64")
    checks = [_score_check(e, recipe.facts, rescored, recorded, exact=exact) for e in session.suite.entries]
    for check in checks:
        console.print(check.sentence, highlight=False, markup=False, soft_wrap=True)
    return Verification(merged, tuple(changed), tuple(checks))


def _recorded_run(recipe: Recipe, path: Path) -> RunFolder | None:
    """Return the run that holds a recipe or that the recipe records; None if neither is there."""
    places = [path.parent, *(Path(run) for run in [recipe.facts.get("found_by", {}).get("run")] if run)]
    return next((RunFolder(place) for place in places if is_run(place)), None)


def _existing(run_folder: RunFolder | None) -> RunFolder:
    assert run_folder is not None, "Should not reach."
    return run_folder


def _score_check(
    entry: TaskEntry, facts: Mapping[str, Any], rescored: Scores, recorded: Scores | None, *, exact: bool
) -> ScoreCheck:
    score = scores_of([entry], rescored)[entry.name]
    try:
        claimed = facts["scores"]["report"]["tasks"][entry.name]["value"]
    except (KeyError, TypeError):
        raise UserError(f"the recipe records no report score for the task '{entry.name}'") from None
    if recorded is None:  # the items are gone: compare the means, up to rounding
        flipped = 0 if np.isclose(score.value, claimed, rtol=1e-4, atol=1e-6) else score.n
    else:
        flipped = sum(
            _flipped(rescored.items[leaf.name].values, recorded.items[leaf.name].values) for leaf in entry.leaves
        )
    return ScoreCheck(entry, claimed, score.value, score.n, flipped, exact)


def _flipped(first: np.ndarray, second: np.ndarray) -> int:
    """Return on how many items the values differ by more than rounding; items without a value (NaN) are equal."""
    if first.shape != second.shape:
        return max(len(first), len(second))
    close = np.isclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True)
    return int((~close.reshape(len(close), -1).all(axis=1)).sum())
