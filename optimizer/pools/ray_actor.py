"""The worker as a Ray actor: a process with its own sources and live model."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluators import ScoringPlan
from ..config import RunConfig, WorkersSection
from ..session.devices import device_name
from ..session.load_sources import load_quietly
from ..session.session import Options, Session
from .pool import BlockDone, Event, Job
from .ray_cluster import room
from .worker import Worker


@dataclass(frozen=True)
class WorkerFacts:
    """Where a worker is and what it works with; `ingredients` are the digests of its sources and tasks."""

    node: str
    host: str
    pid: int
    gpus: tuple[str, ...]
    device: str
    made_with: dict[str, str | None]
    ingredients: dict[str, dict[str, str]]

    @property
    def place(self) -> str:
        """The node and its GPUs, or the process where there are none."""
        return f"{self.host}:{'gpu ' + ','.join(self.gpus) if self.gpus else self.pid}"


def host_of(place: str) -> str:
    """The node in a worker's place."""
    return place.partition(":")[0]


class RayWorker:
    """Weights never travel: the sources are opened here, memory-mapped, so that a node's workers share their pages."""

    def open(self, name: str, config: RunConfig, root: Path, options: Options) -> WorkerFacts:
        """Open the sources and tasks, and load a first candidate.

        Raises:
            UserError: they are not as the configuration says.
        """
        import ray

        context = ray.get_runtime_context()
        session = Session(config, root, options, neighbors=_workers_on_this_node(ray, config.workers))
        load_quietly(session)
        session.candidate.load(session.baselines[0][1])
        self.session, self.worker = session, Worker(session, name)
        return WorkerFacts(
            node=context.get_node_id(),
            host=platform.node(),
            pid=os.getpid(),
            gpus=tuple(context.get_accelerator_ids().get("GPU", ())),
            device=device_name(session.device),
            made_with=session.scored_with(),
            ingredients=session.ingredient_digests(),
        )

    def received(self) -> None:
        """Says that this worker was alive when it was given its job."""

    def begin(self, job: Job) -> tuple[Event, ...]:
        """Work until there is something to ask the driver."""
        self._blocks_left = len(self.session.suite.blocks(job.part))
        return self._up_to_a_question(self.worker.begin(job))

    def proceed(self) -> tuple[Event, ...]:
        """The job goes on."""
        return self._up_to_a_question(self.worker.proceed(True))

    def _up_to_a_question(self, event: Event) -> tuple[Event, ...]:
        """After the last block there is nothing to decide."""
        self._blocks_left -= isinstance(event, BlockDone)
        if isinstance(event, BlockDone) and not self._blocks_left:
            return event, self.worker.proceed(True)
        return (event,)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(session, *args)`."""
        return function(self.session, *args)

    def use(self, plan: ScoringPlan) -> None:
        """Score by this plan from now on."""
        self.session.suite.use(plan)


def _workers_on_this_node(ray: Any, workers: WorkersSection) -> int:
    """How many workers the node has room for."""
    here = ray.get_runtime_context().get_node_id()
    resources = next((node["Resources"] for node in ray.nodes() if node["NodeID"] == here), {})
    gpus = workers.gpus_per_worker
    if gpus is None:
        gpus = float(resources.get("GPU", 0) > 0)
    return max(1, room(resources, workers.cpus_per_worker, gpus))
