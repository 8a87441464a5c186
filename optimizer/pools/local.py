"""One worker, in this process: a job is scored while the driver waits for its next event."""

from __future__ import annotations

from collections.abc import Generator

import torch

from mergesmith.errors import UserError

from ...evaluators import ScoringError
from ...merge_ops import MergeError
from ..session import Session
from .pool import BlockDone, Event, Failed, Finished, Job


class LocalPool:
    """A pool of one."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._job: Generator[Event, bool, None] | None = None
        self._answer: bool | None = None

    @property
    def free(self) -> int:
        """1 when there is no job."""
        return 1 if self._job is None else 0

    def submit(self, job: Job) -> None:
        """Take a job."""
        if self._job is not None:
            raise RuntimeError("the worker is busy: take events until its job is finished")
        self._job, self._answer = self._work(job), None

    def next_event(self) -> Event:
        """Work on the job until it has something to tell."""
        if self._job is None:
            raise RuntimeError("there is no job: submit one first")
        event = next(self._job) if self._answer is None else self._job.send(self._answer)
        self._answer = None
        if not isinstance(event, BlockDone):
            self._job = None
        return event

    def answer(self, number: int, *, go_on: bool) -> None:
        """Say whether the job goes on."""
        self._answer = go_on

    def _work(self, job: Job) -> Generator[Event, bool, None]:
        try:
            seconds = self.session.timed_load(job.recipe)
            for scores in self.session.blocks(job.part):
                go_on = yield BlockDone(job.number, scores, seconds)
                if not go_on:
                    break
        except UserError:  # the run's fault, not the candidate's
            raise
        except (MergeError, ScoringError) as error:
            yield Failed(job.number, str(error))
        except Exception as error:  # out of memory, a model that cannot run these weights: the run goes on
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            yield Failed(job.number, f"{type(error).__name__}: {error}")
        else:
            yield Finished(job.number)
