"""The files of a running search. If the disk is full, a write waits instead of failing."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..stop_signals import raise_if_overdue
from .atomic_files import append, json_text, replace_file, unwritable

FULL = (errno.ENOSPC, errno.EDQUOT)
RETRY_S = 5.0  # between two attempts to write to a full disk
POLL_S = 0.2  # between two checks for a stop signal during that wait
Announce = Callable[[str], None]


def discard(message: str) -> None:
    """Ignore a message: for a run that is only read, which never waits."""


class DurableFiles:
    """Writes files below one folder; every write either happens completely or leaves the file unchanged.

    When the disk is full, a write waits until there is room. `announce(message)` reports when such a wait begins and
    when it ends.
    """

    def __init__(self, folder: Path, announce: Announce) -> None:
        self.folder, self._announce = folder, announce

    def replace(self, path: Path, data: bytes) -> None:
        """Write a whole file.

        Raises:
            UserError: the write failed, and not because the disk is full.
            StoppedError: a stop signal arrived during the wait.
        """
        self._patiently(path, len(data), lambda: replace_file(path, data))

    def extend(self, name: str, data: bytes, *, sync: bool) -> None:
        """Append `data` to the file `name`; with `sync`, the data is on disk on return.

        Raises:
            UserError, StoppedError: as `replace`.
        """
        path = self.folder / name
        self._patiently(path, len(data), lambda: append(path, data, sync=sync))

    def write_text(self, name: str, text: str) -> None:
        """Write a whole text file; raises as `replace`."""
        self.replace(self.folder / name, text.encode("utf-8"))

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a whole JSON file; raises as `replace`."""
        self.write_text(name, json_text(document))

    def _patiently(self, path: Path, size: int, write: Callable[[], None]) -> None:
        """Call `write`, which leaves nothing behind when it fails, until the disk has room for its `size` bytes."""
        waited = False
        while True:
            try:
                write()
            except OSError as error:
                if error.errno not in FULL:
                    raise unwritable(path, error) from error
                if not waited:
                    self._announce(
                        f"the disk that holds {path} is full ({error.strerror}): {size} bytes do not fit. Nothing is "
                        "lost; the run waits and continues as soon as there is room"
                    )
                waited = True
                _pause()
            else:
                if waited:
                    self._announce(f"there is room again for {path}: the run continues")
                return


def _pause() -> None:
    end = time.monotonic() + RETRY_S
    while time.monotonic() < end:
        raise_if_overdue()
        time.sleep(POLL_S)
    raise_if_overdue()
