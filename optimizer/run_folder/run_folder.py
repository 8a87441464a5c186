"""A run's folder: everything that a run leaves behind, written so that a crash at any byte loses nothing finished.

search.yaml       the configuration, every default spelled out
environment.json  versions and machine, and the folder that relative paths start from
ingredients.json  digests of sources and tasks: a resumed run must have the same
scoring.json      what each task is scored by, and the tokens per batch
trials.jsonl      one line per finished trial: the truth
items/            per-item scores, one .npz per trial and part, and the items' ids
events.jsonl      what happened when, for `mergesmith status` and for repeating the order: see below
study.journal     an Optuna journal for optuna-dashboard; derived, rebuilt where it disagrees with trials.jsonl
verdict.json      the final phase: scores on select and report, intervals
looks.json        how often the report part was opened
best.yaml         the winner
lock              held by the running driver, whose host and pid it names; a dead one holds nothing

A line of events.jsonl is {"at": Unix time in seconds, "event": its kind, and the facts of that kind}:

driver    the driver "started" or "stopped" (state), with its pid and host, and how many baselines the run has
best      another trial is the best so far: its number, label and value
asked     a candidate was asked for: number, after how many finished trials, its params; one that was in flight when a
          driver ended stands there again, as it was
finished  a trial's line is in trials.jsonl: number
lost      an attempt at a candidate ended without a result: number, part, worker, place, error, seconds, counts
worker    a worker (name) is "ready", "lost" or "failed" (state), with its place; and its node, pid and device, or error

They are written without waiting for the disk: a power failure may cost the last of them, which no result depends on.

A search that meets a full disk waits and says so by `RunFolder.says`; everything else that a disk refuses ends it.

10,000 trials of 60 parameters on 2,000 items of three tasks take less than 250 MB: per trial 1.4 kB of 0/1 scores,
6 kB in trials.jsonl, 4 kB in events.jsonl and 12 kB in the journal, most of it the parameters' names. Scores that are
any numbers take 8 bytes per item and number, 16 kB per such trial. Items' ids are kept once, 3 bytes per item.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mergesmith.errors import Faults, UserError

from ...evaluators import Part, Scores
from ..config import RunConfig, dump_config, load_config
from ..session.gc_pause import gc_paused
from .atomic_files import (
    BEST,
    CONFIG,
    ENVIRONMENT,
    EVENTS,
    INGREDIENTS,
    ITEMS,
    JOURNAL,
    LOOKS,
    SCORING,
    TRIALS,
    VERDICT,
    append,
    cut_torn_tail,
    is_run,
    json_line,
    json_text,
    patiently,
    read_events,
    read_lines,
    remove_partial,
    replace_file,
    write_json,
    write_text,
    writing,
)
from .environment import environment, found_root, moved, recorded_root
from .item_store import ItemStore
from .lock import LOCK, Driver, driver, take_lock
from .trial import Trial

__all__ = ["BEST", "LOOKS", "SCORING", "VERDICT", "RunFolder", "config_root", "is_run", "write_json", "write_text"]


class RunFolder:
    """One run's folder. Use `create`, `resume` (both take the lock) or `open` (read only).

    `says(message)` is told when a full disk makes the search wait; set it to what the user sees.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.says: Callable[[str], None] = lambda message: None
        self._lock: int | None = None
        self._items = ItemStore(path / ITEMS, self.replace)

    @classmethod
    def create(cls, path: Path, config: RunConfig, root: Path) -> RunFolder:
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
        ours = (LOCK, ENVIRONMENT, ITEMS, EVENTS)
        if strangers := sorted(p.name for p in path.iterdir() if p.name not in ours and not p.name.startswith(".")):
            raise UserError(f"output {path} is not empty (it holds {strangers[0]}); name another folder with --output")
        run._lock = take_lock(path)
        run._describe(config, root)
        return run

    @classmethod
    def resume(cls, path: Path, config: RunConfig, root: Path) -> RunFolder:
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
        run._lock = take_lock(path)
        for name in (TRIALS, EVENTS):
            cut_torn_tail(path / name)
        for folder in (path, path / ITEMS):
            remove_partial(folder)
        run._describe(config, root)
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
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
        """The folder that the configuration's relative paths start from.

        A run that was moved with what surrounds it finds it from its own new place.
        """
        return found_root(self.path, self._environment())

    def here(self, reference: str) -> str:
        """Where a model is now that the run's files name by an absolute path."""
        return moved(reference, Path(self._environment()["root"]), self.root)

    def _environment(self) -> dict[str, Any]:
        return json.loads((self.path / ENVIRONMENT).read_text(encoding="utf-8"))

    def _describe(self, config: RunConfig, root: Path) -> None:
        with writing(self.path):
            (self.path / ITEMS).mkdir(exist_ok=True)
        write_json(self.path / ENVIRONMENT, {**environment(), **recorded_root(root, self.path)})
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
        shutil.rmtree(self.path / ITEMS, ignore_errors=True)
        for name in (CONFIG, ENVIRONMENT, INGREDIENTS, SCORING, TRIALS, EVENTS, JOURNAL, LOCK):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's files are in it
            self.path.rmdir()

    def trials(self) -> list[Trial]:
        """All finished trials, in the order in which they finished.

        Raises:
            UserError: a line that is not the last one is damaged.
        """
        with gc_paused():
            return read_lines(self.path / TRIALS, Trial.from_line)

    def append(self, trial: Trial, scores: Scores | None) -> None:
        """Record a finished trial: its items first, then its line; on return both are on disk.

        Raises:
            UserError: the disk refuses; the line is then not in the file.
        """
        if scores is not None:
            self.save_items(trial.number, scores)
        self.extend(TRIALS, (trial.to_line() + "\n").encode(), sync=True)
        self.note("finished", number=trial.number)

    def note(self, event: str, **facts: Any) -> None:
        """Write down what happens, in one line of events.jsonl.

        Raises:
            UserError: the disk refuses.
        """
        self.extend(EVENTS, json_line({"at": round(time.time(), 3), "event": event, **facts}), sync=False)

    def events(self) -> list[dict[str, Any]]:
        """What happened, in order; see the module's text.

        Raises:
            UserError: a line that is not the last one is damaged.
        """
        with gc_paused():
            return read_events(self.path)

    def driver(self) -> Driver:
        """Who drives the run, or who did last. For another process than the driver, which is not disturbed."""
        return driver(self.path)

    def save_items(self, number: int, scores: Scores) -> None:
        """Write the per-item scores of a trial on one part."""
        self._items.save(number, scores)

    def items(self, number: int, part: Part) -> Scores | None:
        """The per-item scores of a trial on a part; None where it was not scored."""
        return self._items.load(number, part)

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a whole JSON file of a search at work."""
        self.write_text(name, json_text(document))

    def write_text(self, name: str, text: str) -> None:
        """Write a whole text file of a search at work."""
        self.replace(self.path / name, text.encode("utf-8"))

    def replace(self, path: Path, data: bytes) -> None:
        """Write a whole file of a search at work; a full disk makes it wait.

        Raises:
            UserError: the disk refuses for another reason.
            StoppedError: a signal came during the wait.
        """
        patiently(path, len(data), lambda: replace_file(path, data), self.says)

    def extend(self, name: str, data: bytes, *, sync: bool) -> None:
        """Add to the end of a file of a search at work, all of `data` or nothing; as `replace` otherwise."""
        path = self.path / name
        patiently(path, len(data), lambda: append(path, data, sync=sync), self.says)


def config_root(path: Path) -> Path:
    """The folder that a search.yaml's relative paths start from: its own, or for a run's copy the original's."""
    return RunFolder(path.parent).root if is_run(path.parent) else path.parent
