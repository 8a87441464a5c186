"""Creation, resumption and removal of a run's folder. A driver holds the folder's lock until `RunFolder.close`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mergesmith.errors import Faults, UserError

from ..config import RESUMABLE, RunConfig, dump_config
from .atomic_files import cut_torn_tail, remove_partial, user_errors, write_json, write_text
from .durable_files import Announce, discard
from .environment import environment, recorded_root
from .file_names import ANSWERS, CONFIG, CONTROL, ENVIRONMENT, EVENTS, FILES, INGREDIENTS, ITEMS, LOCK, TRIALS, is_run
from .lock import take_lock
from .run_folder import RunFolder

LEFTOVERS = (LOCK, ENVIRONMENT, ITEMS, EVENTS)  # files that a run killed during its creation may leave


def create_run(path: Path, config: RunConfig, root: Path, *, announce: Announce = discard) -> RunFolder:
    """Start a new run; `root` is the folder to which the configuration's relative paths refer.

    Raises:
        UserError: the folder is not empty, cannot be written, or another process works in it.
    """
    with user_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    if is_run(path):
        raise UserError(
            f"output {path} already holds a run; continue it with --resume, or name another folder with --output"
        )
    # Without search.yaml no run was created, so leftovers of an earlier attempt may be overwritten.
    if others := sorted(p.name for p in path.iterdir() if p.name not in LEFTOVERS and not p.name.startswith(".")):
        raise UserError(f"output {path} is not empty (it holds {others[0]}); name another folder with --output")
    lock = take_lock(path)
    _describe(path, config, root)
    return RunFolder(path, announce=announce, lock=lock)


def resume_run(path: Path, config: RunConfig, root: Path, *, announce: Announce = discard) -> RunFolder:
    """Continue a run; `root` as in `create_run`.

    Raises:
        UserError: there is no run, its configuration differs in more than may change, or another process works on it.
    """
    check_same_run(path, config)
    lock = take_lock(path)
    for name in (TRIALS, EVENTS, ANSWERS):
        cut_torn_tail(path / name)
    for folder in (path, path / ITEMS):
        remove_partial(folder)
    _describe(path, config, root)
    return RunFolder(path, announce=announce, lock=lock)


def check_same_run(path: Path, config: RunConfig) -> None:
    """Check that a run can be continued with a configuration.

    Raises:
        UserError: there is no run, or the configuration differs in more than may change.
    """
    different = RunFolder.open(path).config.difference(config)
    if different:
        raise UserError(
            f"output {path} already holds a different run: {', '.join(different)} changed. On resume only "
            f"{', '.join(RESUMABLE[:-1])} and {RESUMABLE[-1]} may change; "
            "name another folder with --output for a new run"
        )


def is_fruitless(path: Path) -> bool:
    """Return whether a run has finished trials, and all of them failed."""
    trials = RunFolder.open(path).trials()
    return bool(trials) and all(trial.failed for trial in trials)


def discard_run(path: Path) -> None:
    """Remove the files of a run; other files in the folder stay."""
    for folder in (ITEMS, CONTROL):
        shutil.rmtree(path / folder, ignore_errors=True)
    for name in FILES:
        (path / name).unlink(missing_ok=True)
    with suppress(OSError):  # other files are in it
        path.rmdir()


def check_ingredients(folder: Path, digests: Mapping[str, Mapping[str, str]]) -> None:
    """Record the digests of a new run's sources and tasks, or compare them with those that the run began with.

    `digests` maps a kind ("model" or "task") to name -> digest.

    Raises:
        UserError: sources or tasks have changed; all of them are listed.
    """
    path = folder / INGREDIENTS
    if not path.is_file():
        write_json(path, {"schema_version": 1, **digests})
        return
    recorded = json.loads(path.read_text(encoding="utf-8"))
    faults = Faults(f"output {folder}: this run began with other ingredients; use another folder")
    for kind, by_name in digests.items():
        for name, digest in by_name.items():
            if recorded.get(kind, {}).get(name) != digest:
                faults.add(f"{kind} '{name}'", "has changed")
    faults.raise_if_any()


def _describe(path: Path, config: RunConfig, root: Path) -> None:
    with user_errors(path):
        (path / ITEMS).mkdir(exist_ok=True)
    write_json(path / ENVIRONMENT, {**environment(), **recorded_root(root, path)})
    write_text(path / CONFIG, dump_config(config))
