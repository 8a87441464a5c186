"""Where the time of a candidate goes, from outside: cProfile, its functions sorted into the stages of a merge."""

from __future__ import annotations

import cProfile
import pstats
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STAGES = {
    "planning": (
        "plan",
        "recipe",
        "layout",
        "fit",
        "architecture",
        "config_json",
        "intermediate",
        "resolve",
        "vocabulary",
    ),
    "reading and casting": ("bank", "checkpoint", "files"),
    "statistics": ("statistics", "reductions"),
    "writing": ("live", "write", "weight_views", "digest"),
}
MERGING = "merging"  # every other file of merge_ops
OTHER = "other"
TOP = 8

Function = tuple[str, int, str]  # file, line, name


def profiled(work: Callable[[], object]) -> dict[str, Any]:
    """Run `work`; returns `stages`, seconds by stage, and `top`, (seconds, function) of the costliest by own time.

    A function of torch or Python counts where merge_ops calls it, and so does a method's own (a planner that starts
    with `plan` is planning). Compiled code and other threads are seen as the call that waits for them. The profiler
    slows down what makes many calls.
    """
    profiler = cProfile.Profile()
    profiler.runcall(work)
    calls: dict[Function, Any] = pstats.Stats(profiler).stats  # pyright: ignore[reportAttributeAccessIssue]
    stages: dict[str, float] = defaultdict(float)
    known: dict[Function, dict[str, float]] = {}
    for function, (_, _, own, _, _) in calls.items():
        for stage, share in _shares(function, calls, known).items():
            stages[stage] += own * share
    costliest = sorted(calls, key=lambda function: -calls[function][2])[:TOP]
    return {"stages": dict(stages), "top": [(calls[function][2], _shown(function)) for function in costliest]}


def stage_of(function: Function) -> str | None:
    """The stage that a function of merge_ops belongs to; None where that is its caller's to say."""
    path = Path(function[0])
    if "merge_ops" not in path.parts:
        return None
    if path.parent.name == "methods":
        return "planning" if function[2].startswith("plan") else None
    for stage, files in STAGES.items():
        if path.stem.startswith(files):
            return stage
    return MERGING


def _shares(
    function: Function, calls: dict[Function, Any], known: dict[Function, dict[str, float]]
) -> dict[str, float]:
    """How a function's own time is shared by the stages: its own stage, else as its callers' are, by their time."""
    if function in known:
        return known[function]
    stage = stage_of(function)
    if stage is not None:
        return {stage: 1.0}
    known[function] = {OTHER: 1.0}  # what calls itself, or what nobody in merge_ops calls
    callers = calls[function][4] if function in calls else {}
    total = sum(times[2] for times in callers.values())
    if total > 0:
        shares: dict[str, float] = defaultdict(float)
        for caller, times in callers.items():
            for stage, share in _shares(caller, calls, known).items():
                shares[stage] += share * times[2] / total
        known[function] = dict(shares)
    return known[function]


def _shown(function: Function) -> str:
    file, line, name = function
    return name if file == "~" else f"{Path(file).name}:{line} {name}"
