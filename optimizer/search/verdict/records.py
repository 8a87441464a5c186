"""The verdict on a run as records, and as the content of verdict.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ....evaluators import Score
from ...run_folder.trial import Trial, scores_document
from ..objective import Difference
from ..stages import StageSummary
from .limits import LimitCheck


@dataclass(frozen=True)
class VerdictRow:
    """One line of the result: a candidate's scores on the report part, and the objective with its standard error.

    `answers` holds the rates of its generated answers (task -> fact -> mean).
    """

    trial: Trial
    role: str
    scores: dict[str, Score]
    value: float
    stderr: float
    answers: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Comparison:
    """The difference between the winner and another candidate on the report part.

    Attributes:
        against: the other candidate, as sentences name it; `number` is its trial, or None if it is the control's.
        difference: of the objective.
        tasks: task -> by how much the winner is better, in the metric's unit.
    """

    against: str
    difference: Difference
    tasks: Mapping[str, Difference] = field(default_factory=dict)
    number: int | None = None

    @property
    def sentence(self) -> str:
        """The conclusion that the interval supports."""
        d = self.difference
        if d.low != d.low:
            return f"The winner scores {d.value:+.4f} against {self.against}; there is no interval for it."
        interval = f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}] on {d.n} report items"
        if not d.distinguishable:
            return f"The winner is not distinguishable from {self.against}: {interval}."
        return f"The winner is {'better' if d.low > 0 else 'worse'} than {self.against}: {interval}."


@dataclass(frozen=True)
class ControlCost:
    """What the control took.

    Attributes:
        candidates: how many candidates it scored, `dropped` of them in part.
        item_scores: the item scores that they took; `search_item_scores`: those of the search's proposals.
        seconds: the time to merge and to score, of all candidates together; `search_seconds`: the search's.
        ended: why it ended.
    """

    candidates: int
    dropped: int
    item_scores: int
    search_item_scores: int
    seconds: float
    search_seconds: float
    ended: str

    @property
    def sentence(self) -> str:
        """The cost in one sentence."""
        less = f"; {self.ended}" if self.item_scores < self.search_item_scores else ""
        dropped = f" ({self.dropped} dropped early)" if self.dropped else ""
        return (
            f"Control: {self.candidates} random candidates{dropped} took {self.item_scores:,} item scores, the search "
            f"{self.search_item_scores:,}{less}."
        )


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run.

    Attributes:
        looks: how often the report part has been opened, including this time.
        scorers: task -> its scorer.
        warnings: how the winner's generated answers differ from its parents'.
        stages: the stages of the search, if its sampler works in stages.
        control: what the control took, if there was one; its best candidate is the row "control".
        limits: how the winner keeps within each `max_drop`.
    """

    winner: Trial
    best_parent: Trial
    rows: tuple[VerdictRow, ...]
    finalists: tuple[tuple[Trial, float], ...]
    comparisons: tuple[Comparison, ...]
    looks: int
    scorers: Mapping[str, str]
    warnings: tuple[str, ...]
    stages: tuple[StageSummary, ...] = ()
    control: ControlCost | None = None
    limits: tuple[LimitCheck, ...] = ()


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """Return the content of verdict.json."""
    return {
        "schema_version": 1,
        "report_looks": verdict.looks,
        "scorers": dict(verdict.scorers),
        "winner": {"trial": verdict.winner.number, "name": verdict.winner.label},
        "best_parent": {"trial": verdict.best_parent.number, "name": verdict.best_parent.label},
        "finalists": [
            {"trial": trial.number, "name": trial.label, "select": value} for trial, value in verdict.finalists
        ],
        "report": [_row_document(row) for row in verdict.rows],
        "comparisons": [
            {
                "against": c.against,
                "trial": c.number,
                **c.difference.to_document(),
                "tasks": {task: difference.to_document() for task, difference in c.tasks.items()},
                "sentence": c.sentence,
            }
            for c in verdict.comparisons
        ],
        "limits": [limit.to_document() for limit in verdict.limits],
        "stages": [asdict(stage) for stage in verdict.stages],
        "control": None if verdict.control is None else asdict(verdict.control),
        "warnings": list(verdict.warnings),
    }


def _row_document(row: VerdictRow) -> dict[str, Any]:
    return {
        "role": row.role,
        "trial": row.trial.number,
        "name": row.trial.label,
        "objective": row.value,
        "stderr": row.stderr if math.isfinite(row.stderr) else None,
        "scores": scores_document(row.scores),
        "answers": row.answers,
    }
