"""The work on a job in the process of the worker: merges the recipe and scores it block by block."""

from __future__ import annotations

from collections.abc import Generator

from mergesmith.errors import UserError

from ...evaluators import ScoringError, is_device_lost, is_out_of_memory, release
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
            if is_device_lost(error):
                raise DeviceLostError(str(error).partition("\n")[0]) from error
            lacks_memory = is_out_of_memory(error)
            explained = isinstance(error, (MergeError, ScoringError))
            reason = str(error) if explained else f"{type(error).__name__}: {error}"
        else:
            named = None if digest is None else (device_name(self.session.device), digest.hex)
            yield Finished(job.number, self.name, named)
            return
        if lacks_memory:
            release()  # outside the handler, whose exception keeps the failed attempt's tensors alive
        yield Failed(job.number, reason, self.name)
