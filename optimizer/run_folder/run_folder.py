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

A search that meets a full disk waits and announces it; every other error of the disk ends it.

10,000 trials of 60 parameters on 2,000 items of three tasks take less than 250 MB: per trial 1.4 kB of 0/1 scores,
6 kB in trials.jsonl, 4 kB in events.jsonl and 12 kB in the journal, most of it the parameters' names. Scores that are
any numbers take 8 bytes per item and number, 16 kB per such trial. Items' ids are kept once, 3 bytes per item.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from mergesmith.errors import UserError

from ...evaluators import Part, Scores
from ..config import RunConfig, load_config
from ..session.gc_pause import gc_paused
from .atomic_files import json_line, read_events, read_lines
from .durable_files import Announce, DurableFiles, discard
from .environment import found_root, moved
from .file_names import CONFIG, ENVIRONMENT, EVENTS, ITEMS, TRIALS, is_run
from .item_store import ItemStore
from .trial import Trial


class RunFolder:
    """The records of one run: its trials, events and per-item scores. `files` writes its other files.

    `open` gives one to read from; a driver gets its own from `create_run` or `resume_run`, with the lock held.
    """

    def __init__(self, path: Path, *, announce: Announce = discard, lock: int | None = None) -> None:
        """`announce(message)` reports a wait for a full disk; `lock` is the open file that holds the run's lock."""
        self.path = path
        self.files = DurableFiles(path, announce)
        self._items = ItemStore(path / ITEMS, self.files.replace)
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run to read from.

        Raises:
            UserError: there is none.
        """
        if not is_run(path):
            raise UserError(f"{path} holds no run (no {ENVIRONMENT} and {CONFIG} in it)")
        return cls(path)

    def close(self) -> None:
        """Release the lock, if this process holds it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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
        self.files.extend(TRIALS, (trial.to_line() + "\n").encode(), sync=True)
        self.note("finished", number=trial.number)

    def note(self, event: str, **facts: Any) -> None:
        """Write down what happens, in one line of events.jsonl.

        Raises:
            UserError: the disk refuses.
        """
        self.files.extend(EVENTS, json_line({"at": round(time.time(), 3), "event": event, **facts}), sync=False)

    def events(self) -> list[dict[str, Any]]:
        """What happened, in order; see the module's text.

        Raises:
            UserError: a line that is not the last one is damaged.
        """
        with gc_paused():
            return read_events(self.path)

    def save_items(self, number: int, scores: Scores) -> None:
        """Write the per-item scores of a trial on one part."""
        self._items.save(number, scores)

    def items(self, number: int, part: Part) -> Scores | None:
        """The per-item scores of a trial on a part; None where it was not scored."""
        return self._items.load(number, part)


def config_root(path: Path) -> Path:
    """The folder that a search.yaml's relative paths start from: its own, or for a run's copy the original's."""
    return RunFolder(path.parent).root if is_run(path.parent) else path.parent
