"""Reads and writes files so that each write happens completely or leaves the file as it was."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mergesmith.errors import UserError

from .file_names import EVENTS, is_run

PARTIAL = ".partial-"  # what a whole file is called until it is complete
T = TypeVar("T")


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside, such as a full disk or missing permissions, into a UserError about `path`."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UserError:
    """Return the error that reports that a file cannot be written; inside a run's folder it says how to continue."""
    hint = ""
    if is_run(path.parent) or is_run(path.parent.parent):
        hint = " What was finished is kept: make room (or mend the permissions) and go on with --resume."
    return UserError(f"{path} cannot be written: {error.strerror or error}.{hint}")


def append(path: Path, data: bytes, *, sync: bool) -> None:
    """Add to the end of a file, in one write where the system takes it; all of it or, when that fails, nothing.

    `sync`: on return it is on disk.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(file).st_size
        try:
            _write_all(file, data)
            if sync:
                os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def replace_file(path: Path, data: bytes) -> None:
    """Write a whole file: it is there complete and on disk, or as it was."""
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f"{PARTIAL}{path.name}.")
    try:
        try:
            _write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        Path(name).chmod(0o666 & ~_umask())  # mkstemp lets nobody else read
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def write_text(path: Path, text: str) -> None:
    """Write a whole text file: it is there complete, or as it was."""
    with user_errors(path):
        replace_file(path, text.encode("utf-8"))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a whole JSON file."""
    write_text(path, json_text(document))


def json_text(document: Mapping[str, Any]) -> str:
    """JSON for people to read."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def json_line(document: Mapping[str, Any]) -> bytes:
    """One line of JSON with its end."""
    return (json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()


def read_lines(path: Path, parse: Callable[[str], T]) -> list[T]:
    """What `parse` makes of each whole line; what follows the last line's end is torn, or is being written.

    Raises:
        UserError: a line is damaged.
    """
    found: list[T] = []
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    for i, line in enumerate(lines[:-1]):
        try:
            found.append(parse(line.decode("utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: line {i + 1} is damaged: {error}") from None
    return found


def cut_torn_tail(path: Path) -> None:
    """Take away what follows the end of a file's last whole line: a writer was killed there."""
    if path.is_file():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)


def remove_partial(folder: Path) -> None:
    """Remove the incomplete files that a killed writer left."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's events.jsonl; see `run_folder.py`.

    Raises:
        UserError: a line is damaged.
    """
    return read_lines(folder / EVENTS, json.loads)
