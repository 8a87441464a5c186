"""The stages of a search: what each cost, what it learnt and why it ended, announced and recorded when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..proposal import StageEnd
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial
from .leaderboard import Leaderboard

EVENT = "stage"


@dataclass(frozen=True)
class StageSummary:
    """One stage of a search.

    Attributes:
        name: the stage.
        candidates: how many candidates it proposed; `probes`: how many probes.
        items: the item scores that both took, three per item for a gradient.
        share: `items` as a share of the budget, which is `search.item_scores`, else all items for every one of
            `search.trials`.
        best: the value of its best candidate that was scored in full and keeps within all limits.
        gain: `best` minus the best value before the stage.
        learnt: what its results say; see `StageEnd`.
        reason: why it ended; empty while it has not.
    """

    name: str
    candidates: int
    probes: int
    items: int
    share: float
    best: float | None
    gain: float | None
    learnt: str = ""
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The line that announces the stage's end."""
        if not self.candidates and not self.probes:
            return f"{self.name}: {self.reason}"
        counts = [(self.candidates, "candidate"), (self.probes, "probe")]
        parts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts if n]
        parts.append(f"{self.items:,} item scores ({self.share:.0%} of the budget)")
        found = "" if self.best is None else f"best {self.best:.4f}"
        gain = "" if self.gain is None else f" ({self.gain:+.4f})"
        learnt = "; ".join(filter(None, (self.learnt, found + gain)))
        return "; ".join(filter(None, (f"{self.name}: {', '.join(parts)}", learnt, f"ended: {self.reason}")))


class Stages:
    """Announces the end of every stage in one line, and records it as an event, once."""

    def __init__(self, leaderboard: Leaderboard, run_folder: RunFolder, announce: Callable[[str], None]) -> None:
        self.leaderboard, self.run_folder, self.announce = leaderboard, run_folder, announce
        self._recorded: dict[str, Mapping[str, Any]] = {
            event["name"]: event for event in run_folder.events() if event["event"] == EVENT
        }

    def end(self, ends: Iterable[StageEnd]) -> None:
        """Announce the stages among `ends` that have not been announced yet."""
        for stage in ends:
            if stage.name not in self._recorded:
                self._announce(self.summary(stage.name, stage.learnt, stage.reason))

    def finish(self, reason: str) -> None:
        """Announce the stages that were still open when the search ended, for this reason."""
        for summary in self.summaries():
            recorded = self._recorded.get(summary.name, {})
            if (recorded.get("candidates"), recorded.get("probes")) != (summary.candidates, summary.probes):
                self._announce(self.summary(summary.name, summary.learnt, reason))

    def summaries(self) -> list[StageSummary]:
        """Return all stages that asked for something or were skipped with a reason, in the order of their ends."""
        names = dict.fromkeys([*self._recorded, *(trial.stage for trial in self.leaderboard.trials if trial.stage)])
        texts = {name: self._recorded.get(name, {}) for name in names}
        return [self.summary(name, text.get("learnt", ""), text.get("reason", "")) for name, text in texts.items()]

    def summary(self, name: str, learnt: str, reason: str) -> StageSummary:
        """Return the summary of a stage from its finished trials."""
        trials = [trial for trial in self.leaderboard.trials if trial.stage == name]
        probes = sum(bool(trial.probe) for trial in trials)
        items = sum(trial.items for trial in trials)
        share = items / max(1, self.leaderboard.budget)
        best, before = self._best(trials), None
        if best is not None:
            before = self._best(self.leaderboard.trials[: min(trial.after for trial in trials)])
        gain = None if best is None or before is None else best - before
        return StageSummary(name, len(trials) - probes, probes, items, share, best, gain, learnt, reason)

    def _announce(self, summary: StageSummary) -> None:
        self._recorded[summary.name] = asdict(summary)
        self.announce(summary.sentence)
        self.run_folder.note(EVENT, **asdict(summary))

    def _best(self, trials: Iterable[Trial]) -> float | None:
        values = (trial.value for trial in self.leaderboard.feasible(trials))
        return max((value for value in values if value is not None), default=None)
