"""A run's folder: everything that a run leaves behind, written so that a crash at any byte loses nothing finished.

search.yaml       the configuration, every default spelled out
environment.json  versions and machine
ingredients.json  digests of sources and tasks: a resumed run must have the same
scoring.json      what each task is scored by, and the tokens per batch
trials.jsonl      one line per finished trial: the truth
items/            per-item scores, one .npz per trial and part
study.journal     an Optuna journal for optuna-dashboard; derived, rebuilt on every start
verdict.json      the final phase: scores on select and report, intervals
looks.json        how often the report part was opened
best.yaml         the winner
lock              held by the running driver; a dead one holds nothing
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mergesmith.errors import Faults, UserError

from ..evaluators import ItemScores, Part, Scores
from .config import RunConfig, dump_config, load_config
from .environment import environment
from .trial import Trial

CONFIG, TRIALS, VERDICT, BEST = "search.yaml", "trials.jsonl", "verdict.json", "best.yaml"
ENVIRONMENT, INGREDIENTS, LOOKS = "environment.json", "ingredients.json", "looks.json"
SCORING = "scoring.json"


class RunDir:
    """One run's folder. Use `create`, `resume` (both take the lock) or `open` (read only)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path, config: RunConfig, root: Path) -> RunDir:
        """Start a new run; `root` is the folder that the configuration's relative paths start from.

        Raises:
            UserError: the folder already holds something, or another process works in it.
        """
        run = cls(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        if is_run(path):
            raise UserError(
                f"output {path} already holds a run; go on with it by --resume, or name another folder with --output"
            )
        # A run that was killed while it began is no run: what it left is ours to overwrite.
        ours = ("lock", ENVIRONMENT, "items")
        if strangers := sorted(p.name for p in path.iterdir() if p.name not in ours and not p.name.startswith(".")):
            raise UserError(f"output {path} is not empty (it holds {strangers[0]}); name another folder with --output")
        run._take_lock()
        run._describe(config, root)
        return run

    @classmethod
    def resume(cls, path: Path, config: RunConfig, root: Path) -> RunDir:
        """Go on with a run; `root` as in `create`.

        Raises:
            UserError: there is no run, it is another one, or another process works on it.
        """
        run = cls.open(path)
        different = run.config.difference(config)
        if different:
            raise UserError(
                f"output {path} already holds a different run: {', '.join(different)} changed. On resume only trials, "
                "time_limit, workers and output may change; name another folder with --output for a new run"
            )
        run._take_lock()
        run._cut_torn_tail()
        run._describe(config, root)
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """A run to read from.

        Raises:
            UserError: there is none.
        """
        if not is_run(path):
            raise UserError(f"{path} holds no run (no {ENVIRONMENT} and {CONFIG} in it)")
        return cls(path)

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return load_config(self.path / CONFIG)

    @property
    def root(self) -> Path:
        """The folder that the configuration's relative paths start from."""
        return Path(json.loads((self.path / ENVIRONMENT).read_text(encoding="utf-8"))["root"])

    def _describe(self, config: RunConfig, root: Path) -> None:
        with writing(self.path):
            (self.path / "items").mkdir(exist_ok=True)
        write_json(self.path / ENVIRONMENT, {**environment(), "root": str(root.resolve())})
        write_text(self.path / CONFIG, dump_config(config))

    def check_same(self, ingredients: Mapping[str, Mapping[str, str]]) -> None:
        """Record the digests of sources and tasks, or compare them with those that the run began with.

        Raises:
            UserError: something is not what it was; all of it is listed.
        """
        path = self.path / INGREDIENTS
        if not path.is_file():
            write_json(path, {"schema_version": 1, **ingredients})
            return
        recorded = json.loads(path.read_text(encoding="utf-8"))
        faults = Faults(f"output {self.path}: this run began with other ingredients; use another folder")
        for kind, digests in ingredients.items():
            for name, digest in digests.items():
                if recorded.get(kind, {}).get(name) != digest:
                    faults.add(f"{kind} '{name}'", "has changed")
        faults.raise_if_any()

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def discard(self) -> None:
        """Remove the folder's files of a run without trials; what was there before the run stays."""
        shutil.rmtree(self.path / "items", ignore_errors=True)
        for name in (CONFIG, ENVIRONMENT, INGREDIENTS, SCORING, TRIALS, "study.journal", "lock"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's files are in it
            self.path.rmdir()

    def trials(self) -> list[Trial]:
        """All finished trials, in the order in which they finished.

        Raises:
            UserError: a line that is not the last one is damaged.
        """
        found: list[Trial] = []
        lines = (self.path / TRIALS).read_bytes().split(b"\n") if (self.path / TRIALS).is_file() else [b""]
        for i, line in enumerate(lines[:-1]):  # what follows the last line's end is torn or empty
            try:
                found.append(Trial.from_line(line.decode("utf-8")))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self.path / TRIALS}: line {i + 1} is damaged: {error}") from None
        return found

    def append(self, trial: Trial, scores: Scores | None) -> None:
        """Record a finished trial: its items first, then its line; on return both are on disk.

        Raises:
            UserError: the disk refuses; the line is then not in the file.
        """
        if scores is not None:
            self.save_items(trial.number, scores)
        path = self.path / TRIALS
        with writing(path):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                size = os.fstat(file).st_size
                try:
                    _write_all(file, (trial.to_line() + "\n").encode())
                    os.fsync(file)
                except OSError:
                    os.ftruncate(file, size)
                    raise
            finally:
                os.close(file)

    def note(self, event, **facts):
        import time

        with (self.path / "events.jsonl").open("a") as f:
            f.write(json.dumps({"at": round(time.time(), 3), "event": event, **facts}) + "\n")

    def events(self):
        p = self.path / "events.jsonl"
        return [json.loads(l) for l in p.read_text().splitlines()] if p.is_file() else []

    def save_items(self, number: int, scores: Scores) -> None:
        """Write the per-item scores of a trial on one part."""
        arrays: dict[str, np.ndarray] = {}
        for leaf, items in scores.items.items():
            arrays[f"{leaf}/ids"] = np.array(items.ids, dtype=np.str_)
            arrays[f"{leaf}/values"] = items.values
            if items.facts is not None:
                arrays[f"{leaf}/facts"] = items.facts
        path = self._items(number, scores.part)
        with writing(path), replacing(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def items(self, number: int, part: Part) -> Scores | None:
        """The per-item scores of a trial on a part; None where it was not scored."""
        path = self._items(number, part)
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            leaves = dict.fromkeys(key.rpartition("/")[0] for key in arrays.files)
            items = {
                leaf: ItemScores(
                    ids=tuple(arrays[f"{leaf}/ids"].tolist()),
                    values=arrays[f"{leaf}/values"],
                    facts=arrays[f"{leaf}/facts"] if f"{leaf}/facts" in arrays.files else None,
                )
                for leaf in leaves
            }
        return Scores(part, items)

    def _items(self, number: int, part: Part) -> Path:
        suffix = "" if part == "search" else f"-{part}"
        return self.path / "items" / f"{number:04d}{suffix}.npz"

    def _take_lock(self) -> None:
        file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise UserError(f"{self.path}: another process is working on this run; wait for it or stop it") from None
        self._lock = file

    def _cut_torn_tail(self) -> None:
        path = self.path / TRIALS
        if path.is_file():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.truncate(path, whole)


def is_run(path: Path) -> bool:
    """Whether a folder is a run's; a search.yaml alone may be the user's own."""
    return (path / CONFIG).is_file() and (path / ENVIRONMENT).is_file()


def config_root(path: Path) -> Path:
    """The folder that a search.yaml's relative paths start from: its own, or for a run's copy the original's."""
    return RunDir(path.parent).root if is_run(path.parent) else path.parent


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a full or forbidden disk as the user's matter."""
    try:
        yield
    except OSError as error:
        hint = ""
        if is_run(path.parent) or is_run(path.parent.parent):
            hint = " What was finished is kept: make room (or mend the permissions) and go on with --resume."
        raise UserError(f"{path} cannot be written: {error.strerror or error}.{hint}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Any]:
    """A binary file that appears under `path` only when it is complete and on disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())  # mkstemp lets nobody else read
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a whole text file: it is there complete, or as it was."""
    with writing(path), replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a whole JSON file."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
