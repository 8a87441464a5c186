"""The limits that tasks set with `max_drop`, compared with what the winner lost on the report items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....evaluators import Scores
from ...run_folder.trial import Trial
from ..objective import Difference, Objective


@dataclass(frozen=True)
class LimitCheck:
    """One task with a limit. A drop is positive if the winner is worse, in the metric's unit.

    Attributes:
        task: the task.
        allowed: its `max_drop`.
        parent: the best parent on the task by its search items, which the limit refers to.
        search: the drop on the search items, which the search kept within the limit.
        report: the drop on the report items.
    """

    task: str
    allowed: float
    parent: str
    search: float
    report: Difference

    @property
    def kept(self) -> bool:
        """Whether the drop on the report items is within the limit."""
        return self.report.value <= self.allowed

    @property
    def sentence(self) -> str:
        """The finding in one sentence."""
        d = self.report
        interval = "" if d.low != d.low else f" [{d.low:+.4f}, {d.high:+.4f}]"
        return (
            f"Limit of {self.task} {'kept' if self.kept else 'broken'}: a drop of {self.allowed:g} below {self.parent} "
            f"is allowed; found {d.value:+.4f}{interval} on {d.n} report items, {self.search:+.4f} on the search items."
        )

    def to_document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "task": self.task,
            "allowed": self.allowed,
            "parent": self.parent,
            "search": self.search,
            "report": self.report.to_document(),
            "kept": self.kept,
            "sentence": self.sentence,
        }


def check_limits(
    objective: Objective, winner: Trial, parents: Sequence[Trial], items: Mapping[int, Scores]
) -> tuple[LimitCheck, ...]:
    """Return the check of every task with a limit; `items` are the scores on the report part by trial number.

    A task is left out if its best parent could not be scored on the report items.
    """
    found = []
    for entry in objective.entries:
        if entry.max_drop is None:
            continue
        best = max(parents, key=lambda trial: (entry.sign * trial.scores[entry.name].value, -trial.number))
        if best.number in items:
            drop = entry.sign * (best.scores[entry.name].value - winner.scores[entry.name].value)
            report = objective.task_difference(entry, items[best.number], items[winner.number])
            found.append(LimitCheck(entry.name, entry.max_drop, best.label, drop, report))
    return tuple(found)
