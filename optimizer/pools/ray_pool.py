"""A pool of workers that are Ray actors. It keeps their number up and reports the events of their jobs.

Ray never restarts an actor (max_restarts=0): the pool reports a lost worker and starts a new one in its place.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from mergesmith.errors import UserError

from ...evaluators import ScoringPlan
from ..config import RunConfig
from ..session.options import Options
from ..stop_signals import RunFailedError, raise_if_overdue, stop_requested
from .deadline import INITIAL_TIMEOUT_S, Deadline
from .pool import BlockDone, Event, Finished, Job, Lost
from .ray_actor import WorkerFacts, host_of
from .ray_admission import Admission
from .ray_cluster import connect
from .ray_failures import WorkerLoss, connection_loss, job_is_innocent, loss_from
from .ray_futures import CompletedFutures
from .ray_scaling import WorkerScaler
from .ray_watchdog import Watchdog
from .ray_workers import Call, WorkerGroup, WorkerHandle

REMINDER_S = 60.0  # between two messages about waiting for workers
MAX_CALL_ATTEMPTS = 3


class RayPool:
    """A pool of Ray actors; see `Pool`."""

    def __init__(
        self,
        config: RunConfig,
        root: Path,
        options: Options,
        *,
        note: Callable[..., None],
        announce: Callable[[str], None],
    ) -> None:
        """Start or join the cluster and request the workers, without waiting for them.

        `note(event, **facts)` records an event of the run; `announce(message)` shows a message to the user.

        Raises:
            UserError: there is no such cluster, or this machine has no room for a worker.
        """
        self.note, self.announce = note, announce
        self.ray = connect(config.workers)
        self.workers = WorkerGroup(self.ray, config, root, options)
        self.scaler = WorkerScaler(self.ray, self.workers, config.workers)
        self.admission = Admission()
        self.deadline = Deadline(config.workers.trial_timeout)
        self._watchdog = Watchdog(self.ray, self.workers, self.deadline)
        self._completed = CompletedFutures(self.ray)
        self._events: deque[Event] = deque()
        self._reminded = time.monotonic()
        self.scaler.scale()
        if config.workers.address is None and not self.scaler.capacity:
            self.close()
            raise UserError(
                f"workers: not one fits on this machine: {self.scaler.demand}; lower gpus_per_worker or "
                "cpus_per_worker, or name the address of a cluster"
            )

    def expect(self, ingredients: dict[str, dict[str, str]], versions: dict[str, str | None]) -> None:
        """Reject workers whose sources or tasks have other digests, or whose libraries have other versions."""
        self.admission.expect(ingredients, versions)

    @property
    def free(self) -> int:
        """The number of workers that can take a job."""
        return len(self.workers.idle)

    @property
    def worker_counts(self) -> tuple[int, int]:
        """The numbers of workers that are ready, and that there should be."""
        return len(self.workers.ready), self.scaler.target

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        """Give a job to an idle worker, if possible on a node without a place in `avoid`, else at another place."""
        nodes = {host_of(place) for place in avoid}
        min(self.workers.idle, key=lambda handle: (host_of(handle.place) in nodes, handle.place in avoid)).begin(job)

    def answer(self, number: int, *, go_on: bool) -> None:
        """Continue or end the job whose block is done; ignored after the last block, with which the job ends anyway."""
        handle = self.workers.with_job(number)
        if handle is None or handle.future is not None:
            return
        if go_on:
            handle.proceed()
        else:
            self._end_job(handle, Finished(number, handle.name))

    def next_event(self) -> Event | None:
        """Wait for the next event of any job; return None if there is none yet, or if workers have come or gone.

        Raises:
            RunFailedError: no worker can be started.
        """
        if not self._events:
            self._step()
        return self._events.popleft() if self._events else None

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(session, *args)`, computed by an idle worker, or by another one if that worker is lost.

        Raises:
            RunFailedError: several workers were lost.
            Exception: any exception of `function`.
        """
        error: Exception | None = None
        for _ in range(MAX_CALL_ATTEMPTS):
            while not self.workers.idle:
                self._step()
                raise_if_overdue()
            handle = self.workers.idle[0]
            call = handle.start_call(function, *args)
            self._wait_for(handle, call)
            if (error := call.error) is None:
                return call.result
            if isinstance(error, self.ray.exceptions.RayTaskError):
                raise getattr(error, "cause", None) or error
        raise RunFailedError(f"{MAX_CALL_ATTEMPTS} workers were lost during one call; the last one with: {error}")

    def use(self, plan: ScoringPlan) -> None:
        """Have every worker score by this plan, including workers that start later."""
        self.workers.use(plan)

    def close(self) -> None:
        """Kill the workers, and end the cluster if this process started it."""
        self.workers.close()
        self.ray.shutdown()

    def _wait_for(self, handle: WorkerHandle, call: Call) -> None:
        end = time.monotonic() + INITIAL_TIMEOUT_S
        while not call.done:
            self._step()
            raise_if_overdue()
            if not call.done and time.monotonic() > end:
                reason = f"no answer for {INITIAL_TIMEOUT_S:.0f} s"
                call.finish(None, RuntimeError(reason))
                self._lose(handle, WorkerLoss(reason))

    def _step(self) -> None:
        """Replace hung and missing workers, then process one completed remote call, if one completes within a tick."""
        for handle, reason in self._watchdog.hung():
            self._lose(handle, WorkerLoss(reason))
        if not stop_requested():
            self.scaler.scale()
        self._remind()
        futures = self.workers.futures()
        future = self._completed.next(futures)
        if future is not None:
            self._take(futures[future], future)

    def _remind(self) -> None:
        """Announce once a minute that the run is waiting for workers."""
        now = time.monotonic()
        if self.workers.ready:
            self._reminded = now
        elif now - self._reminded > REMINDER_S:
            self._reminded = now
            self.announce(f"waiting for workers: {self.scaler.demand}")

    def _take(self, handle: WorkerHandle, future: Any) -> None:
        """Process the result of a worker's remote call, or its error."""
        handle.take_future()
        result: Any = None
        error: Exception | None = None
        try:
            result = self.ray.get(future)
        except self.ray.exceptions.RayError as raised:
            error = raised
        if (call := handle.take_call()) is not None:
            call.finish(result, error)
            if error is not None and not isinstance(error, self.ray.exceptions.RayTaskError):
                self._lose(handle, connection_loss(self.ray, error))
        elif error is not None:
            self._lose(handle, loss_from(self.ray, handle, error))
        elif isinstance(result, WorkerFacts):
            self._admit(handle, result)
        else:
            self._take_events(handle, result)

    def _admit(self, handle: WorkerHandle, facts: WorkerFacts) -> None:
        """Admit a worker that has opened the sources, or reject it."""
        if mismatches := self.admission.mismatches(facts):
            self._lose(handle, WorkerLoss(f"on {facts.host} these are not the run's: {', '.join(mismatches)}"))
            return
        self.admission.admitted(facts)
        self.workers.admit(handle, facts)
        self.scaler.worker_opened()
        where = {"node": facts.node, "host": facts.host, "pid": facts.pid, "device": facts.device}
        self.note("worker", name=handle.name, state="ready", place=facts.place, **where)

    def _take_events(self, handle: WorkerHandle, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, BlockDone):
                self._events.append(event)
            else:
                if isinstance(event, Finished) and handle.job is not None:
                    self.deadline.record(handle.job.part, time.monotonic() - handle.since)
                self._end_job(handle, event)

    def _end_job(self, handle: WorkerHandle, event: Event) -> None:
        handle.end_job()
        self._events.append(event)

    def _lose(self, handle: WorkerHandle, loss: WorkerLoss) -> None:
        """Remove a worker, and report its job as lost."""
        job, seconds = handle.job, time.monotonic() - handle.since
        innocent = loss.innocent or (job is not None and job_is_innocent(self.ray, handle, loss.reason))
        self.workers.remove(handle)
        opened = handle.facts is not None
        self.scaler.worker_lost(loss.reason, opened=opened)
        state = "lost" if opened else "failed"
        self.note("worker", name=handle.name, state=state, place=handle.place, error=loss.reason)
        if job is not None:
            self._events = deque(event for event in self._events if event.number != job.number)
            self._events.append(Lost(job.number, handle.name, handle.place, loss.reason, seconds, counts=not innocent))
