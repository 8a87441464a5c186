"""The worker as a Ray actor: a process with sources and a live model."""

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
from ..session.options import Options
from ..session.session import Session
from .pool import BlockDone, Event, Job
from .ray_cluster import workers_that_fit
from .worker import Worker


@dataclass(frozen=True)
class WorkerFacts:
    """The place of a worker, its device and versions, and the digests of its sources and tasks (`ingredients`)."""

    node: str
    host: str
    pid: int
    gpus: tuple[str, ...]
    device: str
    made_with: dict[str, str | None]
    ingredients: dict[str, dict[str, str]]

    @property
    def place(self) -> str:
        """The node and its GPUs; the node and the process id on a worker without GPUs."""
        return f"{self.host}:{'gpu ' + ','.join(self.gpus) if self.gpus else self.pid}"


def host_of(place: str) -> str:
    """Return the node in a worker's place."""
    return place.partition(":")[0]


class RayWorker:
    """A worker in a separate process, which opens the sources itself.

    No weights are sent over the network, and the workers of a node share the memory-mapped pages.
    """

    def open(self, name: str, config: RunConfig, root: Path, options: Options) -> WorkerFacts:
        """Open the sources and tasks, and load a first candidate.

        Raises:
            UserError: the configuration, a source or a task is at fault.
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

    def ping(self) -> None:
        """Do nothing; success of the call proves that the worker was alive."""

    def begin(self, job: Job) -> tuple[Event, ...]:
        """Begin a job; return its events up to the first that needs the driver's decision."""
        self._blocks_left = len(self.session.suite.blocks(job.part))
        return self._until_decision(self.worker.begin(job))

    def proceed(self) -> tuple[Event, ...]:
        """Continue the job; return its events up to the next that needs the driver's decision."""
        return self._until_decision(self.worker.proceed(True))

    def _until_decision(self, event: Event) -> tuple[Event, ...]:
        """Return the event; after the last block, which needs no decision, return the end of the job too."""
        self._blocks_left -= isinstance(event, BlockDone)
        if isinstance(event, BlockDone) and not self._blocks_left:
            return event, self.worker.proceed(True)
        return (event,)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(session, *args)`."""
        return function(self.session, *args)

    def use(self, plan: ScoringPlan) -> None:
        """Score by this plan from now on."""
        self.session.use(plan)


def _workers_on_this_node(ray: Any, workers: WorkersSection) -> int:
    """Return how many workers fit on this node."""
    here = ray.get_runtime_context().get_node_id()
    resources = next((node["Resources"] for node in ray.nodes() if node["NodeID"] == here), {})
    gpus = workers.gpus_per_worker
    if gpus is None:
        gpus = float(resources.get("GPU", 0) > 0)
    return max(1, workers_that_fit(resources, workers.cpus_per_worker, gpus))
