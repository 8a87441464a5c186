"""tasks.json: how the tasks of a run are scored, so that its records can be read without loading the tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mergesmith.errors import UserError

from ...evaluators import Leaf, TaskEntry
from .durable_files import DurableFiles
from .file_names import TASKS

SCHEMA_VERSION = 1


def write_tasks(files: DurableFiles, entries: Sequence[TaskEntry]) -> None:
    """Write the tasks of a run; raises as `DurableFiles.replace`."""
    files.write_json(TASKS, {"schema_version": SCHEMA_VERSION, "tasks": [asdict(entry) for entry in entries]})


def read_tasks(folder: Path) -> tuple[TaskEntry, ...]:
    """Return the tasks of a run; none if the run has not recorded them yet.

    Raises:
        UserError: the file is damaged, or has another schema version.
    """
    path = folder / TASKS
    if not path.is_file():
        return ()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {document['schema_version']}, but this program reads {SCHEMA_VERSION}")
        return tuple(
            TaskEntry(**{**task, "leaves": tuple(Leaf(**leaf) for leaf in task["leaves"])})
            for task in document["tasks"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
