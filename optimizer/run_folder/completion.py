"""Whether a run is complete, from its files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..config import RunConfig
from .file_names import BEST, CONTROL, LOOKS, VERDICT, is_run
from .run_folder import RunFolder
from .trial import items_spent


def is_complete(run_folder: RunFolder, config: RunConfig) -> bool:
    """Return whether resuming a run with `config` would change nothing: no trial is left, and the verdict is written.

    `config` is the run's configuration with the values that the user changed, such as more trials.
    """
    files = [run_folder.path / name for name in (LOOKS, VERDICT, BEST)]
    if not all(file.is_file() for file in files):
        return False
    times = [file.stat().st_mtime_ns for file in files]
    looks, verdict = (json.loads(file.read_text(encoding="utf-8")) for file in files[:2])
    trials = run_folder.trials()
    # The files are written in this order: a run that was killed between two of them has an older one at the end.
    if times != sorted(times) or looks.get("trials") != len(trials):
        return False
    if config.search.control is not None and not _has_control(run_folder, verdict):
        return False
    events = run_folder.events()
    baselines = [event["baselines"] for event in events if event["event"] == "driver" and "baselines" in event]
    counted = sum(not trial.probe for trial in trials)
    spent = items_spent(trials)
    return (
        any(event["event"] == "ended" for event in events)
        or (bool(baselines) and counted >= baselines[-1] + config.search.trials)
        or (config.search.item_scores is not None and spent >= config.search.item_scores)
    )


def _has_control(run_folder: RunFolder, verdict: Mapping[str, Any]) -> bool:
    """Return whether the verdict is on the control that is in the run's folder."""
    path, recorded = run_folder.path / CONTROL, verdict.get("control")
    if recorded is None or not is_run(path):
        return False
    return items_spent(RunFolder.open(path).trials()) == recorded["item_scores"]
