"""Workers as Ray actors. The pool keeps up their number and reports what becomes of jobs; it decides nothing.

Actors are never restarted by Ray (max_restarts=0): one that is lost is reported, and another takes its place.
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
from ..session.session import Options
from ..stop import RunFailedError, raise_if_overdue, stop_requested
from .deadline import UNKNOWN, Deadline
from .pool import BlockDone, Event, Finished, Job, Lost
from .ray_actor import WorkerFacts, host_of
from .ray_cluster import connect
from .ray_crew import WorkerGroup, WorkerHandle
from .worker import DeviceLostError

TICK = 0.25  # seconds that the driver waits at most before it looks at signals, deadlines and the cluster
SOON = 1.0  # seconds
AWAY = 5.0  # seconds without a look at the workers that are not held against them
REMIND = 60.0  # seconds between two lines about waiting for workers
BECAUSE = ("The actor is dead because ", "The actor died because ")
CALLS = 3  # workers that a call may cost


class RayPool:
    """See `Pool`. `note` writes an event of the run, `announce` prints a line for the user."""

    def __init__(
        self,
        config: RunConfig,
        root: Path,
        options: Options,
        *,
        note: Callable[..., None],
        announce: Callable[[str], None],
    ) -> None:
        """Start or join the cluster and ask for the workers, without waiting for them.

        Raises:
            UserError: there is no such cluster, or this machine holds no worker.
        """
        self.ray = connect(config.workers)
        self.crew = WorkerGroup(self.ray, config, root, options, note=note)
        self.deadline = Deadline(config.workers.trial_timeout)
        self.announce = announce
        self._events: deque[Event] = deque()
        self._arrived: deque[Any] = deque()  # futures that are known to be done
        self._reminded = self._tended = time.monotonic()
        self.crew.tend()
        if config.workers.address is None and not self.crew.room:
            self.close()
            raise UserError(
                f"workers: not one fits on this machine: {self.crew.wants}; lower gpus_per_worker or cpus_per_worker, "
                "or name the address of a cluster"
            )

    def expect(self, ingredients: dict[str, dict[str, str]], versions: dict[str, str | None]) -> None:
        """Workers whose sources or tasks have other digests are refused, and those with other versions of libraries."""
        self.crew.ingredients, self.crew.versions = ingredients, versions

    @property
    def free(self) -> int:
        """How many workers wait for a job."""
        return len(self.crew.idle)

    @property
    def workers(self) -> tuple[int, int]:
        """How many workers are ready, and how many there should be."""
        return len(self.crew.ready), self.crew.target

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        """Give a job to a free worker: on another node than those to be avoided, or at least at another place."""
        nodes = {host_of(place) for place in avoid}
        hand = min(self.crew.idle, key=lambda hand: (host_of(hand.place) in nodes, hand.place in avoid))
        hand.job, hand.since = job, time.monotonic()
        hand.received = hand.actor.received.remote()
        hand.future = hand.actor.begin.remote(job)

    def answer(self, number: int, *, go_on: bool) -> None:
        """Say whether a job whose block is done goes on. After its last block there is nothing to say."""
        hand = self.crew.at(number)
        if hand is None or hand.future is not None:
            return
        if go_on:
            hand.future = hand.actor.proceed.remote()
        else:
            self._end(hand, Finished(number, hand.name))

    def next_event(self) -> Event | None:
        """Wait for the next event of any job; None when there is none yet, or when workers have come or gone.

        Raises:
            RunFailedError: no worker can be started.
        """
        if not self._events:
            self._tend()
            self._wait()
        return self._events.popleft() if self._events else None

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(session, *args)` by a free worker; tried again by others when it is lost."""
        error: Exception | None = None
        for _ in range(CALLS):
            while not self.crew.idle:
                self._tend()
                self._wait()
                raise_if_overdue()
            hand = self.crew.idle[0]
            hand.future = hand.asked = hand.actor.call.remote(function, *args)
            end = time.monotonic() + UNKNOWN
            while hand.asked is not None:
                self._tend()
                self._wait()
                raise_if_overdue()
                if time.monotonic() > end:
                    hand.asked, hand.error = None, RuntimeError(f"no answer for {UNKNOWN:.0f} s")
                    self._lose(hand, str(hand.error))
            if (error := hand.error) is None:
                return hand.answer
            if isinstance(error, self.ray.exceptions.RayTaskError):
                raise getattr(error, "cause", None) or error
        raise RunFailedError(f"{CALLS} workers were lost over one question; the last with: {error}")

    def use(self, plan: ScoringPlan) -> None:
        """Have every worker score by this plan, those too that come later."""
        self.crew.use(plan)

    def close(self) -> None:
        """End the workers, and the cluster if it is our own."""
        self.crew.dismiss()
        self.ray.shutdown()

    def _tend(self) -> None:
        """Look after what no future tells: workers that hang or are missing, a cluster that has grown."""
        now = time.monotonic()
        away, self._tended = now - self._tended, now
        for hand in self.crew.busy:
            if away > AWAY:  # the driver waited for room on the disk, or was stopped: what is done was not taken in
                hand.since = min(now, hand.since + away)
            assert hand.job is not None, "Should not reach."
            limit = self.deadline.seconds(hand.job.part)
            if now - hand.since > limit:
                self._lose(hand, f"hung: not done after {limit:.0f} s (workers.trial_timeout)")
        opening = {hand.received: hand for hand in self.crew.opening}
        alive, _ = self.ray.wait(list(opening), num_returns=len(opening), timeout=0) if opening else ([], [])
        for hand in map(opening.__getitem__, alive):
            hand.since = hand.since or now
            if now - hand.since > UNKNOWN:
                self._lose(hand, f"hung: not open after {UNKNOWN:.0f} s")
        if not stop_requested():
            self.crew.tend()
        if self.crew.ready:
            self._reminded = now
        elif now - self._reminded > REMIND:
            self._reminded = now
            self.announce(f"waiting for workers: {self.crew.wants}")

    def _wait(self) -> None:
        """Take in one future, if one is done within a tick."""
        futures = self.crew.futures()
        self._arrived = deque(future for future in self._arrived if future in futures)
        if not futures:
            time.sleep(TICK)
            return
        if not self._arrived:
            done, _ = self.ray.wait(list(futures), num_returns=1, timeout=TICK)
            if done and len(futures) > 1:  # all that are done, so that no worker waits behind the others for ever
                done, _ = self.ray.wait(list(futures), num_returns=len(futures), timeout=0)
            self._arrived.extend(done)
        if self._arrived:
            future = self._arrived.popleft()
            self._take(futures[future], future)

    def _take(self, hand: WorkerHandle, future: Any) -> None:
        hand.future, error = None, None
        result: Any = None
        try:
            result = self.ray.get(future)
        except self.ray.exceptions.RayError as found:
            error = found
        if hand.asked is not None:
            hand.asked, hand.answer, hand.error = None, result, error
            if error is not None and not isinstance(error, self.ray.exceptions.RayTaskError):
                self._broken(hand, error)
        elif error is not None:
            self._failed(hand, error)
        elif isinstance(result, WorkerFacts):
            self.crew.welcome(hand, result)
        else:
            self._take_events(hand, result)

    def _take_events(self, hand: WorkerHandle, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, BlockDone):
                self._events.append(event)
            else:
                if isinstance(event, Finished) and hand.job is not None:
                    self.deadline.took(hand.job.part, time.monotonic() - hand.since)
                self._end(hand, event)

    def _end(self, hand: WorkerHandle, event: Event) -> None:
        hand.job = hand.received = None
        self._events.append(event)

    def _failed(self, hand: WorkerHandle, error: Any) -> None:
        """A worker is lost, or what it was asked raised an error that no candidate can be blamed for."""
        if isinstance(error, self.ray.exceptions.RayTaskError):
            cause = getattr(error, "cause", error)
            if hand.facts is None:  # it could not open: its GPU is another's, its node lacks a file
                first_line = str(cause).partition("\n")[0]
                self._lose(
                    hand, str(cause) if isinstance(cause, UserError) else f"{type(cause).__name__}: {first_line}"
                )
                return
            if not isinstance(cause, (UserError, DeviceLostError)):
                raise error  # a fault in the program
            self._lose(hand, str(cause), innocent=isinstance(cause, UserError))
        else:
            self._broken(hand, error)

    def _broken(self, hand: WorkerHandle, error: Any) -> None:
        """The connection to a worker broke.

        Ray knows at once when a process has died. Where it only calls the worker unavailable, the node or the network
        failed: that a node is dead is known some ten seconds later.
        """
        self._lose(hand, _told(error), innocent=isinstance(error, self.ray.exceptions.ActorUnavailableError))

    def _lose(self, hand: WorkerHandle, error: str, *, innocent: bool = False) -> None:
        job, seconds = hand.job, time.monotonic() - hand.since
        if job is not None:
            innocent = innocent or not self._began(hand) or self.crew.left(hand, error)
        self.crew.lose(hand, error)
        if job is not None:
            self._events = deque(event for event in self._events if event.number != job.number)
            self._events.append(Lost(job.number, hand.name, hand.place, error, seconds, counts=not innocent))

    def _began(self, hand: WorkerHandle) -> bool:
        """Whether the worker was still alive when it was given its job."""
        if hand.received is None:
            return False
        done, _ = self.ray.wait([hand.received], timeout=SOON)  # what a dead worker said may still be under way
        try:
            return bool(done) and self.ray.get(done[0]) is None
        except self.ray.exceptions.RayError:
            return False


def _told(error: Exception) -> str:
    """The reason in what Ray says of a dead actor, on one line."""
    lines = [line.strip().partition(" Some common causes")[0] for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith(BECAUSE)), lines[0] if lines else type(error).__name__)
    for words in BECAUSE:
        told = told.removeprefix(words)
    return told.replace(" Worker exit type:", "").replace(" Worker exit detail:", ":")
