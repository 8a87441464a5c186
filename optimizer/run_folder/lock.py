"""The lock of a run's folder. The running driver holds it and writes its host and pid into the file.

The operating system releases the lock when the driver ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

from mergesmith.errors import UserError

from .atomic_files import user_errors
from .file_names import LOCK

PATIENCE_S = 0.5  # wait for the lock: `driver` in another process takes it for a moment


class Driver(NamedTuple):
    """The process that drives a run, or the last one that did.

    `running` is None if it cannot be determined; host and pid are None if the file does not contain them.
    """

    running: bool | None
    host: str | None
    pid: int | None

    @property
    def name(self) -> str:
        """The process as text, such as 'pid 812 on node7'."""
        return "an unnamed process" if self.pid is None else f"pid {self.pid} on {self.host}"


def process() -> dict[str, str | int]:
    """Return the host and pid of this process."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def take_lock(folder: Path) -> int:
    """Take the lock of a run, write this process's host and pid into it, and return the open file that holds it.

    Raises:
        UserError: another process holds it, or the file system has no locks.
    """
    path = folder / LOCK
    with user_errors(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(file, folder)
        with user_errors(path):
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(process()).encode(), 0)
    except BaseException:
        os.close(file)
        raise
    return file


def _lock(file: int, folder: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise UserError(
                    f"{folder}: another process is working on this run ({_driver(file, True).name}); wait for it or "
                    "stop it"
                ) from None
        except OSError as error:
            raise UserError(
                f"{folder}: its file system supports no locks ({error.strerror}), so two drivers could work on "
                "one run. Name a folder on another disk with --output, or have the file system mounted with locks "
                "(NFS: version 4, or lockd; Lustre: -o flock)"
            ) from error
        time.sleep(PATIENCE_S / 10)


def driver(folder: Path) -> Driver:
    """Return the process that drives a run, or the last one that did, without disturbing a running driver."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return Driver(False, None, None)
    except OSError:
        return Driver(None, None, None)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return _driver(file, False)
    except BlockingIOError:
        return _driver(file, True)
    except OSError:
        return _driver(file, None)
    finally:
        os.close(file)


def _driver(file: int, running: bool | None) -> Driver:
    try:
        holder = json.loads(os.pread(file, 4096, 0))
        return Driver(running, str(holder["host"]), int(holder["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Driver(running, None, None)
