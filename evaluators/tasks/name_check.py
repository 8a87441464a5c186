"""A check of the names in `tasks:` that is quick if they are right: reading lm-eval's index takes seconds."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mergesmith.errors import Faults, UserError

from ..config import TaskConfig

DEFINED = re.compile(rb"^[\s-]*(?:task|group|tag)\s*:\s*[\"']?([^\s\"'#]+)", re.MULTILINE)


def check_files(tasks: Sequence[TaskConfig], task_path: Iterable[str], root: Path) -> None:
    """Check that the files of Python objectives and the folders of tasks exist; `root` is for relative paths.

    Raises:
        UserError: some do not; all of them are listed.
    """
    faults = Faults("tasks")
    for task in tasks:
        source = (task.python or "").rpartition(":")[0]
        if source.endswith(".py") and not (root / source).is_file():
            faults.add(task.name, f"there is no file '{(root / source).resolve()}'")
    for folder in task_path:
        if not (root / folder).is_dir():
            faults.add("task_path", f"there is no folder '{root / folder}'")
    faults.raise_if_any()


def check_task_names(tasks: Sequence[TaskConfig], task_path: Iterable[str], root: Path) -> None:
    """Check that lm-eval or a folder of `task_path` has a task, group or tag of every name.

    Without all of these folders names cannot be judged: then `check_files` has reported the missing ones.

    Raises:
        UserError: some names are unknown; all of them are listed.
    """
    names = {task.name for task in tasks if task.python is None}
    folders = [root / text for text in task_path]
    if not all(folder.is_dir() for folder in folders) or names <= set(_defined(names, folders)):
        return
    from .catalog import Catalog  # imports lm-eval

    faults, catalog = Faults("tasks"), Catalog(folders, names)
    for name in sorted(names):
        try:
            catalog.check(name)
        except UserError as error:
            faults.add(name, str(error))
    faults.raise_if_any()


def _defined(names: Iterable[str], folders: Sequence[Path]) -> Iterator[str]:
    """Yield those of the names that a YAML file defines in plain sight; lm-eval may know the others too."""
    spec = importlib.util.find_spec("lm_eval")
    built_in = [Path(place) / "tasks" for place in (spec and spec.submodule_search_locations) or ()]
    missing = {name.encode() for name in names}
    for folder in (*folders, *built_in):
        for place, _, files in os.walk(folder):
            for file in (file for file in files if missing and file.endswith(".yaml")):
                found = missing.intersection(DEFINED.findall((Path(place) / file).read_bytes()))
                missing -= found
                yield from (name.decode() for name in found)
