"""A pool of one worker in this process, which scores while the driver waits for the next event."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from ...evaluators import ScoringPlan
from ..session.session import Session
from ..stop_signals import RunFailedError
from .pool import BlockDone, Event, Job
from .worker import DeviceLostError, Worker


class LocalPool:
    """A pool of one worker, which is this process."""

    worker_counts = (1, 1)

    def __init__(self, session: Session) -> None:
        self.session, self._worker = session, Worker(session)
        self._job: int | None = None
        self._next: Callable[[], Event] | None = None  # computes the next event of the job

    @property
    def free(self) -> int:
        """1 if there is no job, else 0."""
        return 1 if self._job is None else 0

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        """Take a job.

        Raises:
            RuntimeError: the worker has a job already.
        """
        if self._job is not None:
            raise RuntimeError("the worker is busy: take events until its job is finished")
        self._job, self._next = job.number, partial(self._worker.begin, job)

    def next_event(self) -> Event:
        """Work on the job until its next event.

        Raises:
            RunFailedError: the device is lost; only a new process can use it again.
        """
        if self._next is None:
            raise RuntimeError("the worker has nothing to do: submit a job, or answer its last block, first")
        try:
            event = self._next()
        except DeviceLostError as error:
            raise RunFailedError(f"the device failed ({error}); continue with --resume") from error
        self._next = None
        if not isinstance(event, BlockDone):
            self._job = None
        return event

    def answer(self, number: int, *, go_on: bool) -> None:
        """Continue or end the job."""
        self._next = partial(self._worker.proceed, go_on)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(session, *args)`."""
        return function(self.session, *args)

    def use(self, plan: ScoringPlan) -> None:
        """Score by this plan."""
        self.session.use(plan)

    def close(self) -> None:
        """Do nothing: the driver owns the session."""
