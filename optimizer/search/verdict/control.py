"""The control: a random search with the same space, items, racing rule and item scores as the run's search.

It shows what the search's stages are worth. The control is a run of its own in the folder `control` of the run, with
the run's baselines; so its candidates are never told to the run's sampler, and none can be the run's winner. All that
holds for runs holds for it: it can be resumed, replayed and exported from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ....evaluators import Part, Scores
from ...config import RunConfig
from ...pools import Pool
from ...run_folder.file_names import CONTROL, INGREDIENTS, SCORING, is_run
from ...run_folder.lifecycle import create_run, resume_run
from ...run_folder.lock import process
from ...run_folder.run_folder import RunFolder
from ...run_folder.trial import Trial
from ...stop_signals import RunFailedError
from ..study import Study
from ..watcher import Watcher
from .final_phase import FinalPhase
from .records import ControlCost

MOST = 10  # times `search.trials`: candidates of a small space that repeat each other cost no item scores


class Control:
    """The random search beside a search that has ended. `close` releases its folder."""

    def __init__(self, search: Study, pool: Pool, watcher: Watcher) -> None:
        """Open or create the control's folder, with the baselines of the search.

        Raises:
            UserError: the folder cannot be written, or holds something else.
        """
        self.search, self.watcher = search, watcher
        config = control_config(search.plan.config, search.leaderboard.spent)
        path, root = search.run_folder.path / CONTROL, search.run_folder.root
        open_run = resume_run if is_run(path) else create_run
        self.run_folder = open_run(path, config, root, announce=watcher.announce)
        _share(search.run_folder, self.run_folder, search.trials)
        plan = replace(search.plan, config=config, last=None)
        self.study = Study(plan, self.run_folder, pool, watcher)
        self.final: FinalPhase | None = None

    def run(self) -> None:
        """Score random candidates until they have taken the item scores of the search.

        Raises:
            StoppedError: a signal requested a stop.
        """
        self.run_folder.note("driver", state="started", **process(), baselines=len(self.study.plan.baselines))
        spent = self.search.leaderboard.spent
        self.watcher.announce(f"control: a random search with the {spent:,} item scores that the search took")
        try:
            self.study.run()
        except RunFailedError as error:
            self.watcher.announce(f"the control ended: {error}")

    def winner(self) -> Trial | None:
        """Return the control's best candidate, chosen like the run's winner; None without one."""
        self.final = FinalPhase(self.study.leaderboard, self.study.dispatcher, self.watcher.announce)
        self._share_items("select")
        try:
            return self.final.choose().winner
        except RunFailedError as error:
            self.watcher.announce(f"the control has no winner: {error}")
            return None

    def report_items(self, trial: Trial) -> Scores | None:
        """Return the scores of the control's winner on the report items; None if it cannot be scored."""
        assert self.final is not None, "Should not reach."
        self._share_items("report")
        return self.final.score([trial], "report").get(trial.number)

    @property
    def cost(self) -> ControlCost:
        """What the control took, beside the search."""
        proposals = [trial for trial in self.study.trials if not trial.name]
        return ControlCost(
            len(proposals),
            sum(trial.dropped for trial in proposals),
            self.study.leaderboard.spent,
            self.search.leaderboard.spent,
            round(_seconds(self.study.trials), 3),
            round(_seconds(self.search.trials), 3),
            self.study.end or "it was ended by an error",
        )

    def close(self) -> None:
        """Release the folder's lock."""
        self.run_folder.close()

    def _share_items(self, part: Part) -> None:
        """Take over the baselines' scores on a part, so that they are not computed again."""
        for trial in self.study.trials:
            known = self.search.run_folder.items(trial.number, part) if trial.name else None
            if known is not None and self.run_folder.items(trial.number, part) is None:
                self.run_folder.save_items(trial.number, known)


def control_config(config: RunConfig, item_scores: int) -> RunConfig:
    """Return the configuration of the control for a search that took so many item scores."""
    search = config.search.model_copy(
        update={
            "sampler": "random",
            "trials": MOST * config.search.trials,
            "item_scores": max(1, item_scores),
            "control": None,
        }
    )
    return config.model_copy(update={"search": search, "output": str(Path(config.output) / CONTROL)})


def _share(search: RunFolder, control: RunFolder, trials: Iterable[Trial]) -> None:
    """Copy the baselines, and the records that `mergesmith replay` needs, into the control's folder."""
    known = {trial.number for trial in control.trials()}
    for trial in trials:
        if trial.name and trial.number not in known:
            control.append(trial, search.items(trial.number, "search"))
    for name in (INGREDIENTS, SCORING):
        if (search.path / name).is_file() and not (control.path / name).is_file():
            control.files.replace(control.path / name, (search.path / name).read_bytes())


def _seconds(trials: Iterable[Trial]) -> float:
    return sum(trial.merge_seconds + trial.score_seconds for trial in trials if not trial.name)
