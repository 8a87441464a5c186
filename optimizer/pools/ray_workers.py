"""The actors of a Ray pool, each with its remote call in progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluators import ScoringPlan
from ..config import RunConfig
from ..session.options import Options
from .pool import Job
from .ray_actor import RayWorker, WorkerFacts


@dataclass
class Call:
    """A function that a worker executes for the driver; `result` or `error` is valid once `done` is true."""

    done: bool = False
    result: Any = None
    error: Exception | None = None

    def finish(self, result: Any, error: Exception | None) -> None:
        """Record the outcome."""
        self.done, self.result, self.error = True, result, error


class WorkerHandle:
    """One actor.

    Attributes:
        facts: the worker's report after it has opened the sources; None before.
        job: the job that it scores.
        future: the remote call in progress; None if the worker is idle or waits for the driver's decision on a block.
        since: `time.monotonic()` at the start of its job, or when it was first seen alive while opening; 0 before.
        ping: a remote call made with the worker's task (opening, or a job); its success proves that the worker was
            alive when it received the task.
        call: the function that it is executing for the driver; else None.
    """

    def __init__(self, name: str, actor: Any, facts: WorkerFacts | None = None) -> None:
        self.name, self.actor, self.facts = name, actor, facts
        self.job: Job | None = None
        self.future: Any = None
        self.since = 0.0
        self.ping: Any = None
        self.call: Call | None = None

    @property
    def place(self) -> str:
        """The node and its GPUs; empty while it is opening."""
        return "" if self.facts is None else self.facts.place

    def open(self, config: RunConfig, root: Path, options: Options) -> None:
        """Have the worker open the sources. An actor executes calls in order, so the ping has to come first."""
        self.ping = self.actor.ping.remote()
        self.future = self.actor.open.remote(self.name, config, root, options)

    def opened(self, facts: WorkerFacts) -> None:
        """Record that the worker has opened the sources."""
        self.facts, self.ping = facts, None

    def begin(self, job: Job) -> None:
        """Give the worker a job."""
        self.job, self.since = job, time.monotonic()
        self.ping = self.actor.ping.remote()
        self.future = self.actor.begin.remote(job)

    def proceed(self) -> None:
        """Let the worker score the next block of its job."""
        self.future = self.actor.proceed.remote()

    def end_job(self) -> None:
        """Record that the worker has no job any more."""
        self.job = self.ping = None

    def start_call(self, function: Callable[..., Any], *args: Any) -> Call:
        """Have the worker execute `function(session, *args)`."""
        self.call = Call()
        self.future = self.actor.call.remote(function, *args)
        return self.call

    def take_call(self) -> Call | None:
        """Return the call whose future is done, if the worker was executing one, and forget it."""
        call, self.call = self.call, None
        return call

    def take_future(self) -> None:
        """Record that the result of the remote call has been fetched."""
        self.future = None

    def seen_alive(self, now: float) -> None:
        """Start the clock of a worker that is opening the sources, unless it runs already."""
        self.since = self.since or now

    def extend(self, seconds: float, now: float) -> None:
        """Extend its deadline by the time in which the driver did not check."""
        self.since = min(now, self.since + seconds)


class WorkerGroup:
    """The actors of a pool, in the order in which they were started."""

    def __init__(self, ray: Any, config: RunConfig, root: Path, options: Options) -> None:
        self.ray, self.config, self.root, self.options = ray, config, root, options
        self.handles: list[WorkerHandle] = []
        self._plan: ScoringPlan | None = None
        self._class = ray.remote(RayWorker)
        self._started = 0

    @property
    def ready(self) -> list[WorkerHandle]:
        """The workers that have opened the sources."""
        return [handle for handle in self.handles if handle.facts is not None]

    @property
    def opening(self) -> list[WorkerHandle]:
        """The workers that are opening the sources, or are waiting for a node with room."""
        return [handle for handle in self.handles if handle.facts is None]

    @property
    def idle(self) -> list[WorkerHandle]:
        """The workers that can take a job."""
        return [handle for handle in self.ready if handle.job is None and handle.future is None]

    @property
    def busy(self) -> list[WorkerHandle]:
        """The workers that are scoring a job, except those that wait for the driver's decision on a block."""
        return [handle for handle in self.handles if handle.job is not None and handle.future is not None]

    def with_job(self, number: int) -> WorkerHandle | None:
        """Return the worker that has the job of this number."""
        return next((handle for handle in self.handles if handle.job is not None and handle.job.number == number), None)

    def futures(self) -> dict[Any, WorkerHandle]:
        """Return the remote calls in progress, and the worker of each."""
        return {handle.future: handle for handle in self.handles if handle.future is not None}

    def start(self, gpus: float) -> None:
        """Start another worker with this number of GPUs. Ray keeps it pending until a node has room."""
        self._started += 1
        workers = self.config.workers.of_one(gpus)
        config = self.config.model_copy(update={"workers": workers})
        resources = {"num_cpus": workers.cpus_per_worker, "num_gpus": gpus}
        actor = self._class.options(**resources, max_restarts=0, max_task_retries=0).remote()
        handle = WorkerHandle(f"w{self._started}", actor)
        handle.open(config, self.root, self.options)
        self.handles.append(handle)

    def admit(self, handle: WorkerHandle, facts: WorkerFacts) -> None:
        """Let a worker that has opened the sources take jobs."""
        handle.opened(facts)
        if self._plan is not None:
            handle.actor.use.remote(self._plan)

    def use(self, plan: ScoringPlan) -> None:
        """Have every worker score by this plan, including workers that are admitted later."""
        self._plan = plan
        for handle in self.ready:
            handle.actor.use.remote(plan)

    def remove(self, handle: WorkerHandle) -> None:
        """Kill a worker."""
        self.handles.remove(handle)
        self.ray.kill(handle.actor)

    def close(self) -> None:
        """Kill all workers."""
        for handle in list(self.handles):
            self.remove(handle)
