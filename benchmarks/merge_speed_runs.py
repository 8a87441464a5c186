"""Starts both sides of merge_speed.py in processes of their own, and keeps what they measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from merge_speed_cases import CASES  # noqa: E402

from mergesmith import __version__  # noqa: E402

PACKAGES = ("mergekit", "torch", "transformers", "numba")
Figure = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How everything is measured; `python` is mergekit's interpreter, None where there is none."""

    python: str | None
    threads: int
    repeats: int
    mergekit_repeats: int
    patience: float

    @cached_property
    def versions(self) -> dict[str, str]:
        """The versions of mergekit's environment, without importing it."""
        if self.python is None:
            return {}
        code = f"import importlib.metadata as m, json\nprint(json.dumps({{n: m.version(n) for n in {PACKAGES[:3]!r}}}))"
        return json.loads(subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True).stdout)

    @property
    def environment(self) -> dict[str, str]:
        """Of every process that is timed."""
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
        return {**os.environ, **threads, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parent)}


def processor() -> str:
    """The CPU's model name and the cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def machine(settings: Settings) -> str:
    """The machine and the versions, in a line."""
    theirs = settings.versions
    ours = [f"{name} {found}" for name in PACKAGES if name != "mergekit" and (found := installed(name))]
    parts = [processor(), f"{settings.threads} threads", f"Python {platform.python_version()}"]
    parts += [f"mergesmith {__version__}", *ours]
    if theirs:
        parts.append(f"mergekit {theirs['mergekit']} (with torch {theirs['torch']})")
    return ", ".join(parts)


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class Figures:
    """What was measured, by settings, kept in a file too.

    `cached` says whose earlier figures may be taken: `none`, `mergekit`, `all`.
    """

    def __init__(self, file: Path, settings: Settings, cached: str) -> None:
        self.file, self.settings, self.cached = file, settings, cached
        self.known: dict[str, Figure] = json.loads(file.read_text()) if file.is_file() else {}

    def mergekit(self, folder: Path, methods: Sequence[str], dtype: str) -> dict[str, Figure]:
        """What mergekit takes in memory with arithmetic in `dtype`, by method; nothing where it is not there."""
        if self.settings.python is None:
            return {}
        command = [self.settings.python, str(HERE / "merge_speed_mergekit.py")]

        def measure(names: Sequence[str]) -> Iterator[Figure]:
            cases = [{**asdict(CASES[name]), "base": CASES[name].base} for name in names]
            return self._driver(command, folder, cases=cases, repeats=self.settings.mergekit_repeats, dtype=dtype)

        return self.take(f"mergekit {dtype}", folder, methods, measure)

    def mergesmith(self, folder: Path, methods: Sequence[str]) -> dict[str, Figure]:
        """What mergesmith's candidates take, by method."""
        return self._ours("mergesmith", folder, methods, profile=False)

    def profiles(self, folder: Path, methods: Sequence[str]) -> dict[str, Figure]:
        """Where mergesmith's time goes, by method."""
        return self._ours("profile", folder, methods, profile=True)

    def _ours(self, kind: str, folder: Path, methods: Sequence[str], *, profile: bool) -> dict[str, Figure]:
        command = [sys.executable, str(HERE / "merge_speed_mergesmith.py")]
        settings = {"repeats": self.settings.repeats, "profile": profile}
        return self.take(kind, folder, methods, lambda names: self._driver(command, folder, cases=names, **settings))

    def _driver(self, command: list[str], folder: Path, **job: Any) -> Iterator[Figure]:
        """Run a driver; gives its lines of JSON as they come."""
        job = {"folder": str(folder), "threads": self.settings.threads, "patience": self.settings.patience, **job}
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "job.json"
            file.write_text(json.dumps(job))
            process = subprocess.Popen(
                [*command, str(file)], stdout=subprocess.PIPE, text=True, env=self.settings.environment
            )
            assert process.stdout is not None
            with process:
                yield from map(json.loads, process.stdout)
            if process.returncode:
                raise SystemExit(f"{command[-1]} failed")

    def take(
        self, kind: str, folder: Path, names: Sequence[str], measure: Callable[[Sequence[str]], Iterator[Figure]]
    ) -> dict[str, Figure]:
        """Figures by name, those that are not known (or may not be taken) measured; each is stored when it comes.

        `measure` gives one figure, which has a `name`, for each of the names that it is asked for.
        """
        keys = {name: self._key(kind, folder, name) for name in names}
        allowed = self.cached == "all" or (self.cached == "mergekit" and kind.startswith("mergekit"))
        found = {name: self.known[key] for name, key in keys.items() if allowed and key in self.known}
        missing = [name for name in names if name not in found]
        for figure in measure(missing) if missing else ():
            figure["measured"] = time.strftime("%Y-%m-%d %H:%M")
            found[figure["name"]] = self.known[keys[figure["name"]]] = figure
            print(f"{kind} {folder.name} {json.dumps(figure)}", file=sys.stderr)
            self.file.write_text(json.dumps(self.known, indent=1))
        return {name: found[name] for name in names}

    def _key(self, kind: str, folder: Path, name: str) -> str:
        versions = self.settings.versions if kind.startswith("mergekit") else {p: installed(p) for p in PACKAGES}
        numbers = asdict(CASES[name])
        facts = [kind, folder.name, numbers, versions, self.settings.threads, processor()]
        return json.dumps(facts, sort_keys=True)
