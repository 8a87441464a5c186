"""The outcome of the self-check: each task's scorer, and why no faster one is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..scoring.scorers import Scorer, ScoringPlan


@dataclass(frozen=True)
class TaskCheck:
    """The result for one task.

    Attributes:
        scorer: the scorer that was chosen.
        compared: number of items compared with lm-eval, summed over the candidates.
        largest: the largest difference of log-likelihoods, in nat.
        differing: items whose scores differ within the tolerance.
        rejected: why faster scorers are not used.
        forced: the objection to the scorer that the user forced, or why it could not be checked; else empty.
    """

    scorer: Scorer
    compared: int = 0
    largest: float = 0.0
    differing: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    forced: str = ""

    def sentence(self, task: str) -> str:
        """Return the result in words; `task` is the task's name."""
        text = f"{task}: scored by {self.scorer}"
        if self.compared:
            text += f", equal to lm-eval on {self.compared} sampled items"
            text += f" (log-likelihoods within {self.largest:.1g} nat)" if self.largest else ""
        if self.differing:
            text += f", but for {len(self.differing)}: {'; '.join(self.differing)}"
        return "; ".join(filter(None, (text, *self.rejected, self.forced)))


@dataclass(frozen=True)
class ScoringReport:
    """The scoring plan of a run, and how it was chosen.

    Attributes:
        checks: leaf name -> its result.
        unchecked: one sentence for each candidate that could not be scored.
    """

    plan: ScoringPlan
    checks: Mapping[str, TaskCheck]
    unchecked: tuple[str, ...] = ()

    def sentences(self) -> Iterator[str]:
        """Yield one sentence per candidate that could not be scored, then one per task."""
        yield from self.unchecked
        yield from (check.sentence(leaf) for leaf, check in self.checks.items())
