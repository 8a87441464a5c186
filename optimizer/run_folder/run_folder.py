"""The files of a run, written so that a crash at any byte loses no finished trial.

search.yaml       the configuration, with every default written out
environment.json  versions and machine, and the folder to which relative paths refer
ingredients.json  digests of sources and tasks: a resumed run must have the same
scoring.json      the scorer of each task, the tokens per batch, and the dtype that weights are scored in
tasks.json        how the tasks are scored: metric, direction, weight, limit
sanity.json       warnings about the scores of the base and the models, before the first proposal
trials.jsonl      one line per finished trial; all other records of trials are derived from it
items/            per-item scores, one .npz per trial and part, and the items' ids
events.jsonl      a log of events for `mergesmith status` and `mergesmith replay`; see below
study.journal     an Optuna journal for optuna-dashboard; rebuilt if it disagrees with trials.jsonl
verdict.json      the final phase: scores on select and report, intervals
answers.jsonl     prompts, expected answers and the reported models' answers on the report items
looks.json        how often the report part was scored
best.yaml         the winner
report.html       the result as a page; written by `mergesmith report`, and at the end of a search
control/          the random search beside this one, with `search.control`: a folder like this one
lock              held by the running driver; contains its host and pid

A line of events.jsonl is {"at": Unix time in seconds, "event": kind, and the fields of that kind}:

driver    the driver "started" or "stopped" (state); with its pid and host, and the number of baselines
best      a trial became the best so far: number, label, value
asked     the sampler proposed a candidate: number, params, stage, probe, offset, and the number of trials finished
          before it (after); a resumed driver repeats the event of each candidate that was in flight
stage     a stage of the sampler ended; the fields are those of `StageSummary`
ended     the sampler ended the search before its budget was spent: reason, axes
finished  a trial's line was written to trials.jsonl: number
lost      an attempt at a candidate ended without a result: number, part, worker, place, error, seconds, counts
worker    a worker (name) is "ready", "lost" or "failed" (state), at its place; with node, pid and device, or the error

Events are not synced to disk: a power failure may lose the last ones. No result depends on them.

A search that meets a full disk waits and announces it; any other disk error ends the search.

10,000 trials of 60 parameters on 2,000 items of three tasks take less than 250 MB: per trial 1.4 kB of 0/1 scores,
6 kB in trials.jsonl, 4 kB in events.jsonl and 12 kB in the journal, mostly parameter names. Real-valued scores take
8 bytes per item and value, 16 kB per such trial. Items' ids are stored once, 3 bytes per item.
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

    `open` returns a run for reading; a driver gets its run, with the lock held, from `create_run` or `resume_run`.
    """

    def __init__(self, path: Path, *, announce: Announce = discard, lock: int | None = None) -> None:
        """`announce(message)` reports a wait for a full disk; `lock` is the open file that holds the run's lock."""
        self.path = path
        self.files = DurableFiles(path, announce)
        self._items = ItemStore(path / ITEMS, self.files.replace)
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a run for reading.

        Raises:
            UserError: the folder holds no run.
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
        """The folder to which the configuration's relative paths refer.

        If the run was moved together with that folder, it is found relative to the run's new location.
        """
        return found_root(self.path, self._environment())

    def here(self, reference: str) -> str:
        """Return the present path of a model whose recorded path is absolute; other references are unchanged."""
        return moved(reference, Path(self._environment()["root"]), self.root)

    def _environment(self) -> dict[str, Any]:
        return json.loads((self.path / ENVIRONMENT).read_text(encoding="utf-8"))

    def trials(self) -> list[Trial]:
        """Return all finished trials, in the order in which they finished.

        Raises:
            UserError: a complete line is damaged.
        """
        with gc_paused():
            return read_lines(self.path / TRIALS, Trial.from_line)

    def append(self, trial: Trial, scores: Scores | None) -> None:
        """Record a finished trial: its items first, then its line; on return both are on disk.

        Raises:
            UserError: the trial cannot be written; its line is then not in the file.
            StoppedError: a stop signal arrived while the disk was full.
        """
        if scores is not None:
            self.save_items(trial.number, scores)
        self.files.extend(TRIALS, (trial.to_line() + "\n").encode(), sync=True)
        self.note("finished", number=trial.number)

    def note(self, event: str, **facts: Any) -> None:
        """Append an event to events.jsonl.

        Raises:
            UserError: the event cannot be written.
            StoppedError: a stop signal arrived while the disk was full.
        """
        self.files.extend(EVENTS, json_line({"at": round(time.time(), 3), "event": event, **facts}), sync=False)

    def events(self) -> list[dict[str, Any]]:
        """Return the events in order; the module's docstring describes them.

        Raises:
            UserError: a complete line is damaged.
        """
        with gc_paused():
            return read_events(self.path)

    def save_items(self, number: int, scores: Scores) -> None:
        """Write the per-item scores of a trial on one part."""
        self._items.save(number, scores)

    def items(self, number: int, part: Part) -> Scores | None:
        """Return the per-item scores of a trial on a part; None if it was not scored there.

        Raises:
            UserError: a file is damaged.
        """
        return self._items.load(number, part)


def config_root(path: Path) -> Path:
    """Return the folder to which a search.yaml's relative paths refer; for a run's copy, that of the original."""
    return RunFolder(path.parent).root if is_run(path.parent) else path.parent
