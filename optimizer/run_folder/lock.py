"""The lock of a run's folder: held by the running driver, named in the file; a dead driver holds nothing."""

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

PATIENCE = 0.5  # seconds; one who only asks whether there is a driver holds the lock for a moment


class Driver(NamedTuple):
    """Who drives a run or did last.

    `running` is None where it cannot be known; host and pid are None where the file does not say.
    """

    running: bool | None
    host: str | None
    pid: int | None

    @property
    def name(self) -> str:
        """'pid 812 on node7'."""
        return "a process that gives no name" if self.pid is None else f"pid {self.pid} on {self.host}"


def process() -> dict[str, str | int]:
    """The name of this process: host and pid."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def take_lock(folder: Path) -> int:
    """Take the lock of a run and write this process's name into it; returns the open file that holds it.

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
    end = time.monotonic() + PATIENCE
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
                f"{folder}: its file system gives no lock ({error.strerror}), so two drivers on one run could not be "
                "kept apart. Name a folder on another disk with --output, or have the file system mounted with locks "
                "(NFS: version 4, or lockd; Lustre: -o flock)"
            ) from error
        time.sleep(PATIENCE / 10)


def driver(folder: Path) -> Driver:
    """Who drives a run, or who did last; a driver that is at work is not disturbed."""
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
