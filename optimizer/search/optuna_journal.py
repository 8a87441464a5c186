"""The run as an Optuna journal for optuna-dashboard; mergesmith itself reads results from trials.jsonl only.

The line of a finished trial does not depend on the lines before it, so a resumed run need not read the whole journal. A
small Optuna study in memory creates each line. It is appended to the file here rather than by Optuna, so that a full
disk makes the run wait.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from ...search_spaces import SearchSpace
from ..run_folder.atomic_files import cut_torn_tail, json_line
from ..run_folder.file_names import JOURNAL
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial
from ..samplers.tpe import distributions

STUDY = "mergesmith"
NUMBER, DIGEST = "mergesmith_trial", "recipe_digest"  # user attributes that identify a line
Log = dict[str, Any]


class Journal:
    """An Optuna study on disk that follows the run.

    `recorded` are the trials of earlier sessions in the order in which they will be added. An existing file is kept
    if it holds exactly the first of them; these are not written again.
    """

    def __init__(self, run_folder: RunFolder, space: SearchSpace, recorded: Sequence[Trial] = ()) -> None:
        self.run_folder, self.space = run_folder, space
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = run_folder.path / JOURNAL
        for stale in path.parent.glob(f"{path.name}.*"):  # a dashboard's stale lock would block for a long time
            stale.unlink()
        cut_torn_tail(path)
        header = _Recorder().header
        kept = _count_recorded(path.read_bytes() if path.is_file() else b"", len(header), recorded)
        if kept is None:
            run_folder.files.replace(path, b"".join(map(json_line, header)))
        self._kept = kept or 0

    def add(self, trial: Trial, violations: Mapping[str, float], stderr: float, *, items: int | None = None) -> None:
        """Append a finished trial; facts without a place in Optuna's format become user attributes.

        `items`: how many items its scores come from, if not `trial.items`.

        A dropped candidate is recorded as complete, with its estimate as value.
        """
        if self._kept:
            self._kept -= 1
            return
        attributes = {"name": trial.label, "method": trial.recipe.merge_method, NUMBER: trial.number}
        attributes[DIGEST] = trial.recipe.digest
        attributes |= {name: score.value for name, score in trial.scores.items() if score.n}
        if not trial.failed:
            attributes |= {"items": trial.items if items is None else items, "dropped": trial.dropped}
            attributes["stderr"] = stderr if math.isfinite(stderr) else None
        if trial.error is not None:
            attributes["error"] = trial.error
        params = dict(trial.params or {})
        logs = _Recorder().logs_of(  # a new recorder each time, because it keeps every trial
            create_trial(
                state=TrialState.FAIL if trial.failed else TrialState.COMPLETE,
                value=trial.value,
                params=params,
                distributions=distributions(self.space, params) if params else {},
                constraints=dict(violations) or None,
                user_attrs=attributes,
            )
        )
        self.run_folder.files.extend(JOURNAL, b"".join(json_line(_compact(log)) for log in logs), sync=False)


class _Recorder(BaseJournalBackend):
    """A study in memory that keeps its journal lines instead of writing them."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        self.study = optuna.create_study(storage=JournalStorage(self), study_name=STUDY, direction="maximize")
        self.header = tuple(self.logs)  # the lines that create the study

    def logs_of(self, trial: FrozenTrial) -> list[Log]:
        """Return the lines of a trial."""
        before = len(self.logs)
        self.study.add_trial(trial)
        return self.logs[before:]

    def read_logs(self, log_number_from: int) -> Iterator[Log]:  # type: ignore[override]
        yield from self.logs[log_number_from:]

    def append_logs(self, logs: list[Log]) -> None:
        self.logs.extend(logs)


def _compact(log: Log) -> Log:
    """Return a line without default attributes of distributions, which are most of a journal."""
    return {**log, "distributions": {name: _compact_distribution(text) for name, text in log["distributions"].items()}}


@lru_cache(maxsize=4096)
def _compact_distribution(text: str) -> str:
    document = json.loads(text)
    given = {key: value for key, value in document["attributes"].items() if value is not None and value is not False}
    return json.dumps({"name": document["name"], "attributes": given}, separators=(",", ":"))


def _count_recorded(data: bytes, header: int, recorded: Sequence[Trial]) -> int | None:
    """Return how many of the recorded trials a journal holds, if they are the first ones; None for any other journal.

    `header`: the number of lines before the first trial.
    """
    count = data.count(b"\n") - header
    if not 0 <= count <= len(recorded):
        return None
    if count == 0:
        return 0
    try:
        attributes = json.loads(data[data.rfind(b"\n", 0, -1) :])["user_attrs"]
        last = recorded[count - 1]
        return count if (attributes[NUMBER], attributes[DIGEST]) == (last.number, last.recipe.digest) else None
    except (ValueError, KeyError, TypeError):
        return None
