"""The host memory that this process may use: the machine's, or less in a container or a Slurm job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OF_THIS_PROCESS = Path("/proc/self/cgroup")


def host_memory() -> int:
    """Return the bytes of memory that this process may use; 0 if the system does not report it."""
    return min((machine_memory(), *cgroup_limits()))


def machine_memory() -> int:
    """Return the bytes of memory of this machine; 0 if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def cgroup_limits() -> Iterator[int]:
    """Yield the limits in bytes of the control groups (version 2 and 1) that contain this process."""
    for folder, file in _groups():
        try:
            text = (folder / file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():  # version 2 writes "max" for no limit, version 1 a number above any machine's memory
            yield int(text)


def _groups() -> Iterator[tuple[Path, str]]:
    """Yield (folder, name of the limit's file) of each control group; inside a container the roots have the limits."""
    try:
        lines = OF_THIS_PROCESS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in ("0::/", ":memory:/", *lines):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, file = CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, file = CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        inside = Path(path.lstrip("/"))
        yield from ((root / folder, file) for folder in (inside, *inside.parents))
