"""The work on a job in the process of the worker: merges the recipe and scores it block by block."""

from __future__ import annotations

from collections.abc import Generator

import torch

from mergesmith.errors import UserError

from ...evaluators import ScoringError
from ...merge_ops import MergeError, WeightsDigest
from ..session.devices import device_name
from ..session.session import Session
from .pool import BlockDone, Event, Failed, Finished, Job


class DeviceLostError(RuntimeError):
    """This process can no longer compute anything on its device."""


class Worker:
    """One job at a time on one session: `begin`, then `proceed` after every block."""

    def __init__(self, session: Session, name: str = "") -> None:
        self.session, self.name = session, name
        self._job: Generator[Event, bool, None] | None = None

    def begin(self, job: Job) -> Event:
        """Take a job and work until its first event; an earlier job that the driver ended is discarded.

        Raises:
            DeviceLostError: the device failed.
            UserError: the run is at fault, such as a file that is gone, not the candidate.
        """
        self._job = self._events(job)
        return next(self._job)

    def proceed(self, go_on: bool) -> Event:
        """Continue the job until its next event, or end it."""
        if self._job is None:
            raise RuntimeError("there is no job: begin one first")
        return self._job.send(go_on)

    def _events(self, job: Job) -> Generator[Event, bool, None]:
        digest = WeightsDigest() if job.digest else None
        try:
            if job.probe is not None:
                yield Finished(job.number, self.name, slopes=self.session.gold_probe.run(job.probe))
                return
            seconds = self.session.candidate.timed_load(job.recipe, digest=digest)
            for scores in self.session.candidate.blocks(job.part):
                go_on = yield BlockDone(job.number, scores, seconds)
                if not go_on:
                    break
        except UserError:
            raise
        except Exception as error:  # out of memory, a model that cannot run these weights: the run continues
            if _device_is_lost(error):
                raise DeviceLostError(str(error).partition("\n")[0]) from error
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            explained = isinstance(error, (MergeError, ScoringError))
            yield Failed(job.number, str(error) if explained else f"{type(error).__name__}: {error}", self.name)
        else:
            named = None if digest is None else (device_name(self.session.device), digest.hex)
            yield Finished(job.number, self.name, named)


def _device_is_lost(error: BaseException | None) -> bool:
    """Return whether an error means that every later CUDA call of this process will fail, as after a kernel fault."""
    while error is not None:
        named = type(error).__name__ == "AcceleratorError"  # since torch 2.8
        if named or (isinstance(error, RuntimeError) and "CUDA error" in str(error)):
            return True
        error = error.__cause__
    return False
