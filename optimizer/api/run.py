"""A run as a Python object: its trials, item scores, verdict and best recipe."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergesmith.errors import UserError

from ...evaluators import Part
from ...merge_ops import Recipe, read_recipe
from ..config import RunConfig
from ..report.page import write_report
from ..run_folder.file_names import BEST, JOURNAL, REPORT, VERDICT
from ..run_folder.item_matrix import ItemMatrix
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial
from ..run_folder.trial_row import trial_row
from ..search.optuna_journal import NUMBER, STUDY

if TYPE_CHECKING:
    import optuna
    import pandas as pd


class Run:
    """A run's folder, read anew at every access: a running search can be followed."""

    def __init__(self, path: str | Path) -> None:
        """Open a run for reading.

        Raises:
            UserError: the folder holds no run.
        """
        self.path = Path(path)
        self._folder = RunFolder.open(self.path)
        self._stop = False

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self._folder.config

    @property
    def trials(self) -> list[Trial]:
        """All finished trials, in the order in which they finished: baselines first, then candidates and probes."""
        return self._folder.trials()

    @property
    def best_trial(self) -> Trial | None:
        """The best trial so far by its score on the search items, within all limits; None before there is one."""
        numbers = [event["number"] for event in self._folder.events() if event["event"] == "best"]
        return next((trial for trial in self.trials if numbers and trial.number == numbers[-1]), None)

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The content of verdict.json; None while the search has not ended."""
        path = self.path / VERDICT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def best_recipe(self) -> Recipe:
        """The winner's recipe, with its digests and scores.

        Raises:
            UserError: the search has not ended.
        """
        path = self.path / BEST
        if not path.is_file():
            raise UserError(
                f"{self.path} has no winner yet (no {BEST}): continue the search with resume=True; the best recipe so "
                "far is best_trial.recipe"
            )
        return read_recipe(path)

    def trials_dataframe(self) -> pd.DataFrame:
        """Return one row per trial, indexed by its number.

        Columns: the fields of the trial, `score_TASK` and `stderr_TASK` per task, `params_NAME` per dimension of the
        search space. Values and scores of a dropped candidate are estimates.

        Raises:
            UserError: pandas is not installed.
        """
        pandas = _pandas()
        trials = self.trials
        if any(trial.value is None for trial in trials if trial.complete):
            # Recorded before all parents had been scored, which fixes the scales of Python objectives.
            values = {t.user_attrs[NUMBER]: t.value for t in self.optuna_study().trials}
        else:
            values = {}
        rows = [trial_row(trial, values.get(trial.number)) for trial in trials]
        columns = dict.fromkeys(column for row in rows for column in row) or ("number",)
        return pandas.DataFrame(rows, columns=list(columns)).set_index("number").sort_index()

    def items_dataframe(self, part: Part = "search") -> pd.DataFrame:
        """Return the item scores on a part: a row per item, indexed by task and item, and a column per trial number.

        A cell is NaN if the trial was dropped before the item. Trials that repeat the weights of an earlier one, and
        metrics with several values per item, such as perplexities, are left out.

        Raises:
            UserError: pandas is not installed.
        """
        pandas = _pandas()
        matrix = ItemMatrix.load(self._folder, part)
        index = pandas.MultiIndex.from_arrays([list(matrix.leaves), list(matrix.ids)], names=["task", "item"])
        columns = pandas.Index(list(matrix.trials), name="trial")
        return pandas.DataFrame(matrix.values.T, index=index, columns=columns)

    def optuna_study(self) -> optuna.Study:
        """Return the run as an Optuna study, for Optuna's plots and analyses. Do not add trials to it."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return optuna.load_study(study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(self.path / JOURNAL))))

    def report(self, output: str | Path | None = None, *, with_texts: bool = False) -> Path:
        """Write the run's report as one HTML file and return its path, by default report.html in the run's folder.

        Args:
            output: the file to write.
            with_texts: include prompts and answers of the items that the report shows.

        Raises:
            UserError: a file of the run is damaged, or the report cannot be written.
        """
        path = self.path / REPORT if output is None else Path(output)
        write_report(self.path, path, with_texts=with_texts)
        return path

    def stop(self) -> None:
        """End the search after the candidates in flight; to be called by a callback.

        Baselines are always scored, and the verdict is reached on what has been found. `search(..., resume=True)`
        goes on.
        """
        self._stop = True

    @property
    def stop_requested(self) -> bool:
        """Whether `stop` was called."""
        return self._stop


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise UserError("data frames need pandas: pip install 'mergesmith[pandas]'") from None
    return pandas
