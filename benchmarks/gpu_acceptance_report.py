"""The report of gpu_acceptance.py: lines of results, on the terminal and as JSON lines."""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch


class Report:
    """Collects results; `check` adds one that can fail, `info` a measurement."""

    def __init__(self, device: torch.device, folder: Path, *, quick: bool) -> None:
        self.device, self.folder, self.quick = device, folder, quick
        self.passed = self.failed = 0
        self._section = "env"

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Name the section of the results inside this context, and report its duration."""
        start, self._section = time.perf_counter(), name
        yield
        self.info(f"took {time.perf_counter() - start:.0f} s")

    def check(self, good: bool, text: str) -> None:
        """Add a result that is right or wrong."""
        self.passed += good
        self.failed += not good
        self._write("ok" if good else "FAIL", text)

    def info(self, text: str) -> None:
        """Add a measurement."""
        self._write("info", text)

    def _write(self, kind: str, text: str) -> None:
        print(f"{kind:4s} {self._section:8s} {text}", flush=True)
        with (self.folder / "acceptance.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "section": self._section, "text": text}) + "\n")


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def freed(device: torch.device) -> None:
    """Return unused memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def seconds(work: Callable[[], object], device: torch.device, *, repeats: int = 1) -> float:
    """Return the median time in seconds until the device is done, after one run that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
