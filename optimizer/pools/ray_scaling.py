"""The number of workers of a Ray pool, adjusted as nodes join, leave or fail to start workers."""

from __future__ import annotations

import time
from typing import Any

from ..config import WorkersSection
from ..stop_signals import RunFailedError
from .ray_cluster import workers_that_fit
from .ray_workers import WorkerGroup

LOOK_INTERVAL_S = 1.0  # between two checks of the cluster's resources
MAX_FAILED_STARTS = 3  # in a row; after that the next attempt waits
START_RETRY_S = 60.0


class WorkerScaler:
    """Starts missing workers and withdraws surplus pending requests; see `workers` in search.yaml.

    Attributes:
        target: the number of workers that there should be.
        capacity: the number of workers that the cluster's live nodes have room for.
    """

    def __init__(self, ray: Any, workers: WorkerGroup, section: WorkersSection) -> None:
        self.ray, self.workers, self.section = ray, workers, section
        self.target = self.capacity = 0
        self._resources: dict[str, float] = {}
        self._has_gpus = False
        self._looked = -LOOK_INTERVAL_S
        self._failed_starts, self._last_failure, self._last_error = 0, -START_RETRY_S, ""

    @property
    def demand(self) -> str:
        """The requested workers and the cluster's resources, in words."""
        each = f"{self.section.cpus_per_worker} CPU" + (f" and {self._gpus:g} GPU" if self._gpus else "")
        has = ", ".join(f"{self._resources.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
        return f"{len(self.workers.handles)} of {self.target} asked for, {each} each; the cluster has {has}"

    def scale(self) -> None:
        """Check the cluster, at most once per second, and start the workers that are missing.

        Requests for workers that do not fit yet stay pending in Ray, so that an autoscaler sees the demand.

        Raises:
            RunFailedError: several workers in a row failed to start, and no worker is left.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_INTERVAL_S:
            return
        self._looked = now
        self._look()
        if self._failed_starts >= MAX_FAILED_STARTS:
            if not self.workers.handles:
                raise RunFailedError(f"no worker could be started; the last one failed with: {self._last_error}")
            if now - self._last_failure < START_RETRY_S:
                return
        for handle in self.workers.opening[: max(0, len(self.workers.handles) - self.target)]:
            self.workers.remove(handle)
        while len(self.workers.handles) < self.target:
            self.workers.start(self._gpus)

    def worker_opened(self) -> None:
        """Record that a worker has opened the sources."""
        self._failed_starts = 0

    def worker_lost(self, error: str, *, opened: bool) -> None:
        """Record the loss of a worker, which is then replaced without delay; `opened`: it had opened the sources."""
        if opened:
            self._failed_starts = 0  # a node on which a worker could open the sources has room again
        else:
            self._failed_starts += 1
            self._last_failure, self._last_error = time.monotonic(), error
        self._looked = -LOOK_INTERVAL_S

    def _look(self) -> None:
        resources = self.ray.cluster_resources()
        if resources != self._resources:
            self._resources, self._failed_starts = resources, 0  # workers may start on a new node
            self._has_gpus |= resources.get("GPU", 0) > 0  # stays true: GPU nodes that left may come back
            alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            self.capacity = sum(workers_that_fit(node, self.section.cpus_per_worker, self._gpus) for node in alive)
        self.target = self.section.count or self.capacity

    @property
    def _gpus(self) -> float:
        """GPUs per worker."""
        configured = self.section.gpus_per_worker
        return float(self._has_gpus) if configured is None else configured
