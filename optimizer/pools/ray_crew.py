"""The workers of a Ray pool: how many there should be, who is there, who is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluators import ScoringPlan
from ..config import RunConfig
from ..session.session import Options
from ..stop import RunFailedError
from .pool import Job
from .ray_actor import RayWorker, WorkerFacts
from .ray_cluster import room

LOOK = 1.0  # seconds between two looks at the cluster
TRIES = 3  # workers in a row that may fail to start; then the next ones are tried later
LATER = 60.0  # seconds


@dataclass
class WorkerHandle:
    """One actor. `future` is what it is doing; None when it waits for the driver.

    `received` is done when the actor was alive as it got what it does: to open, or its job. `asked` is the call that it
    answers at the moment; then its `answer` or `error` stands here.
    """

    name: str
    actor: Any
    future: Any
    facts: WorkerFacts | None = None
    job: Job | None = None
    since: float = 0.0
    received: Any = None
    asked: Any = None
    answer: Any = None
    error: Exception | None = None

    @property
    def place(self) -> str:
        """Where it is."""
        return "" if self.facts is None else self.facts.place


class WorkerGroup:
    """Keeps as many actors as are wanted; see `workers` in search.yaml."""

    def __init__(self, ray: Any, config: RunConfig, root: Path, options: Options, *, note: Callable[..., None]) -> None:
        self.ray, self.options, self.root, self.note = ray, options, root, note
        self.config = config
        self.hands: list[WorkerHandle] = []
        self.target = self.room = 0  # how many workers there should be, and how many the nodes hold
        self.ingredients: dict[str, dict[str, str]] = {}
        self.versions: dict[str, str | None] = {}
        self._plan: ScoringPlan | None = None
        self._made_with: dict[str, str | None] | None = None
        self._class = ray.remote(RayWorker)
        self._names = 0
        self._failures, self._failed, self._last_error = 0, -LATER, ""
        self._looked = -LOOK
        self._resources: dict[str, float] = {}
        self._has_gpus = False

    @property
    def ready(self) -> list[WorkerHandle]:
        """Those that have opened the sources."""
        return [hand for hand in self.hands if hand.facts is not None]

    @property
    def opening(self) -> list[WorkerHandle]:
        """Those that open the sources, or wait for a place on a node."""
        return [hand for hand in self.hands if hand.facts is None]

    @property
    def idle(self) -> list[WorkerHandle]:
        """Those that wait for a job."""
        return [hand for hand in self.ready if hand.job is None and hand.future is None]

    @property
    def busy(self) -> list[WorkerHandle]:
        """Those that have one and are at work on it."""
        return [hand for hand in self.hands if hand.job is not None and hand.future is not None]

    @property
    def wants(self) -> str:
        """What is asked of the cluster, in words."""
        asked = f"{self.config.workers.cpus_per_worker} CPU" + (f" and {self._gpus:g} GPU" if self._gpus else "")
        has = ", ".join(f"{self._resources.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
        return f"{len(self.hands)} of {self.target} asked for, {asked} each; the cluster has {has}"

    def at(self, number: int) -> WorkerHandle | None:
        """Who has the job of that number."""
        return next((hand for hand in self.hands if hand.job is not None and hand.job.number == number), None)

    def futures(self) -> dict[Any, WorkerHandle]:
        """What is being done, and by whom."""
        return {hand.future: hand for hand in self.hands if hand.future is not None}

    def tend(self) -> None:
        """Look at the cluster now and then, and ask for the workers that are missing.

        Those that it has no room for yet are pending, which is an autoscaler's demand.

        Raises:
            RunFailedError: one after the other fails to start, and none is there.
        """
        now, workers = time.monotonic(), self.config.workers
        if now - self._looked < LOOK:
            return
        self._looked = now
        resources = self.ray.cluster_resources()
        if resources != self._resources:
            self._resources, self._failures = resources, 0  # another node may do better
            self._has_gpus |= resources.get("GPU", 0) > 0  # for good: nodes with GPUs that left may come again
            alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            self.room = sum(room(node, workers.cpus_per_worker, self._gpus) for node in alive)
        self.target = workers.count or self.room
        if self._failures >= TRIES:
            if not self.hands:
                raise RunFailedError(f"no worker could be started; the last one failed with: {self._last_error}")
            if now - self._failed < LATER:
                return
        for hand in self.opening[: max(0, len(self.hands) - self.target)]:
            self._remove(hand)
        while len(self.hands) < self.target:
            self._ask()

    def welcome(self, hand: WorkerHandle, facts: WorkerFacts) -> None:
        """A worker is ready; one that works with other things than the run is refused.

        The versions are the driver's, the kind of device that of the first worker.
        """
        other = [
            f"{kind} '{name}'"
            for kind, digests in self.ingredients.items()
            for name, digest in digests.items()
            if facts.ingredients.get(kind, {}).get(name) != digest
        ]
        expected = self._made_with or self.versions
        other += [name for name, made in expected.items() if facts.made_with.get(name) != made]
        if other:
            self.lose(hand, f"on {facts.host} these are not the run's: {', '.join(other)}")
            return
        self._made_with = facts.made_with
        hand.facts, hand.received, self._failures = facts, None, 0
        if self._plan is not None:
            hand.actor.use.remote(self._plan)
        place = {"node": facts.node, "host": facts.host, "pid": facts.pid, "device": facts.device}
        self.note("worker", name=hand.name, state="ready", place=facts.place, **place)

    def use(self, plan: ScoringPlan) -> None:
        """Have every worker score by this plan."""
        self._plan = plan
        for hand in self.ready:
            hand.actor.use.remote(plan)

    def left(self, hand: WorkerHandle, error: str) -> bool:
        """Whether a worker is gone because its node is."""
        if hand.facts is None or "node has died" in error or "node was" in error:
            return True
        return not any(node["NodeID"] == hand.facts.node and node["Alive"] for node in self.ray.nodes())

    def lose(self, hand: WorkerHandle, error: str) -> None:
        """A worker is gone, or of no use."""
        self._remove(hand)
        if hand.facts is None:
            self._failures, self._failed, self._last_error = self._failures + 1, time.monotonic(), error
        else:
            self._failures = 0  # there is room now where one could open
        self.note("worker", name=hand.name, state="lost" if hand.facts else "failed", place=hand.place, error=error)
        self._looked = -LOOK  # its place is taken at once

    def dismiss(self) -> None:
        """End all of them."""
        for hand in list(self.hands):
            self._remove(hand)

    def _remove(self, hand: WorkerHandle) -> None:
        self.hands.remove(hand)
        self.ray.kill(hand.actor)

    def _ask(self) -> None:
        self._names += 1
        name = f"w{self._names}"
        workers = self.config.workers.of_one(self._gpus)
        config = self.config.model_copy(update={"workers": workers})
        asks = {"num_cpus": workers.cpus_per_worker, "num_gpus": self._gpus}
        actor = self._class.options(**asks, max_restarts=0, max_task_retries=0).remote()
        received = actor.received.remote()
        future = actor.open.remote(name, config, self.root, self.options)
        self.hands.append(WorkerHandle(name, actor, future, received=received))

    @property
    def _gpus(self) -> float:
        asked = self.config.workers.gpus_per_worker
        return float(self._has_gpus) if asked is None else asked
