"""The highest memory of this process while something runs, read from outside: `with PeakMemory() as memory: ...`.

Linux only (/proc/PID/status). A process of its own does the reading: a thread would stand still while compiled code
holds the interpreter's lock. Only the standard library is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType

FIELDS = ("RssAnon", "RssFile")  # anonymous memory; pages of mapped files, which the system takes back when it must
INTERVAL = 0.001  # seconds between two readings


def memory(pid: int | None = None) -> dict[str, int]:
    """Bytes of each kind of memory of a process, by default of this one."""
    found = {}
    for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines():
        field, _, rest = line.partition(":")
        if field in FIELDS:
            found[field] = int(rest.split()[0]) * 1024
    return found


def give_back_freed_memory() -> None:
    """Return freed memory that the C library still holds to the system, so that it counts when used anew."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


class PeakMemory:
    """Memory `before` the block, at the `peak` within it, and the `extra` of the peak, each bytes by field."""

    def __init__(self) -> None:
        self.before: dict[str, int] = {}
        self.peak: dict[str, int] = {}

    @property
    def extra(self) -> dict[str, int]:
        """How far the peak rose above the level before."""
        return {field: self.peak[field] - self.before[field] for field in self.peak}

    def __enter__(self) -> PeakMemory:
        give_back_freed_memory()
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
        self._reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._reader.stdout is not None
        self._reader.stdout.readline()  # it reads
        self.before = memory()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        peak = json.loads(self._reader.communicate("\n")[0])
        self.peak = {field: max(value, self.before[field]) for field, value in peak.items()}


def watch(pid: int) -> None:
    """Read a process's memory until something comes on standard input, then print the highest values as JSON."""
    peak = memory(pid)
    print("reading", flush=True)
    while not select.select([sys.stdin], [], [], INTERVAL)[0]:
        now = memory(pid)
        peak = {field: max(peak[field], now[field]) for field in peak}
    print(json.dumps(peak))


if __name__ == "__main__":
    watch(int(sys.argv[1]))
