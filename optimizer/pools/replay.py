"""A pool that repeats a recorded run in this process, one trial after the other in the recorded order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from ...evaluators import ScoringPlan
from ..stop_signals import RunFailedError
from .local import LocalPool
from .pool import Event, Failed, Job


@dataclass(frozen=True)
class Schedule:
    """The order of a run.

    Attributes:
        after: number -> the number of trials that had finished when this one was proposed; 0 for baselines.
        finished: the numbers in the order in which they finished.
        given_up: number -> the error of a trial that was given up because its workers were lost.
    """

    after: Mapping[int, int]
    finished: Sequence[int]
    given_up: Mapping[int, str]


class ReplayPool:
    """Takes and finishes jobs in the order of the schedule.

    `finished()` returns the numbers of the finished trials; those that reused a recorded result had no job.
    """

    worker_counts = (1, 1)

    def __init__(self, inner: LocalPool, schedule: Schedule, finished: Callable[[], Set[int]]) -> None:
        self.inner, self.schedule, self.finished = inner, schedule, finished
        self._jobs: dict[int, Job] = {}

    @property
    def free(self) -> int:
        """1 if the next trial is due to be proposed, or if there is no next trial; else 0."""
        finished = self.finished()
        asked = max(self._jobs.keys() | finished, default=-1)
        following = min((number for number in self.schedule.after if number > asked), default=None)
        return int(following is None or self.schedule.after[following] <= len(finished))

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        """Take a job; it waits for its turn."""
        self._jobs[job.number] = job

    def next_event(self) -> Event:
        """Return the next event of the job whose turn it is.

        Raises:
            RunFailedError: the recorded order contradicts itself.
        """
        finished = self.finished()
        if len(finished) >= len(self.schedule.finished):
            return Failed(min(self._jobs.keys() - finished), "was not finished when the run ended")
        number = self.schedule.finished[len(finished)]
        if number in self.schedule.given_up:
            return Failed(number, self.schedule.given_up[number])
        if number not in self._jobs:
            raise RunFailedError(
                f"trial {number} cannot be repeated: according to the record it finished before it was proposed; "
                "the machine may have failed before all events were on disk"
            )
        if self.inner.free:
            self.inner.submit(self._jobs[number])
        return self.inner.next_event()

    def answer(self, number: int, *, go_on: bool) -> None:
        """Continue or end the job."""
        self.inner.answer(number, go_on=go_on)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(session, *args)`."""
        return self.inner.call(function, *args)

    def use(self, plan: ScoringPlan) -> None:
        """Score by this plan."""
        self.inner.use(plan)

    def close(self) -> None:
        """Do nothing: there are no workers to release."""
