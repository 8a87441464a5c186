"""Reading and writing of files. A write either happens completely or leaves the file unchanged."""

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

PARTIAL = ".partial-"  # prefix of a file's name until it is complete
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
        hint = " Finished trials are kept: make room (or fix the permissions) and continue with --resume."
    return UserError(f"{path} cannot be written: {error.strerror or error}.{hint}")


def append(path: Path, data: bytes, *, sync: bool) -> None:
    """Append to a file, in one write if the system accepts it; a failed append leaves the file unchanged.

    With `sync`, the data is on disk on return.

    Raises:
        OSError: the data cannot be written.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(file).st_size
        try:
            _write_all(file, data)
            if sync:
                os.fsync(file)
        except BaseException:  # also when the handler of a stop signal raises in the middle of the line
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file: afterwards it is complete and on disk or, if this raises OSError, unchanged."""
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f"{PARTIAL}{path.name}.")
    try:
        try:
            _write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        Path(name).chmod(0o666 & ~_umask())  # mkstemp allows only the owner to read
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
    """Replace a text file.

    Raises:
        UserError: the file cannot be written; it is unchanged.
    """
    with user_errors(path):
        replace_file(path, text.encode("utf-8"))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a JSON file; raises as `write_text`."""
    write_text(path, json_text(document))


def json_text(document: Mapping[str, Any]) -> str:
    """Return a document as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def json_line(document: Mapping[str, Any]) -> bytes:
    """Return a document as one line of JSON with its line feed."""
    return (json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()


def read_lines(path: Path, parse: Callable[[str], T]) -> list[T]:
    """Parse each complete line of a file; text after the last line feed, torn or still being written, is ignored.

    Raises:
        UserError: a line is damaged.
    """
    records: list[T] = []
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    for i, line in enumerate(lines[:-1]):
        try:
            records.append(parse(line.decode("utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: line {i + 1} is damaged: {error}") from None
    return records


def cut_torn_tail(path: Path) -> None:
    """Remove the incomplete last line that a killed writer left in a file."""
    if path.is_file():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)


def remove_partial(folder: Path) -> None:
    """Remove the incomplete files that a killed writer left in a folder."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a run's events.jsonl; `run_folder.py` describes them.

    Raises:
        UserError: a line is damaged.
    """
    return read_lines(folder / EVENTS, json.loads)
