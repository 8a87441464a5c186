"""Detection of workers of a Ray pool that hang."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .deadline import INITIAL_TIMEOUT_S, Deadline
from .ray_workers import WorkerGroup, WorkerHandle

PAUSE_S = 5.0  # a longer pause between two checks extends the deadlines: results could not be received meanwhile


class Watchdog:
    """Compares the time that every worker has taken with its deadline."""

    def __init__(self, ray: Any, workers: WorkerGroup, deadline: Deadline) -> None:
        self.ray, self.workers, self.deadline = ray, workers, deadline
        self._looked = time.monotonic()

    def hung(self) -> Iterator[tuple[WorkerHandle, str]]:
        """Yield every worker whose deadline has passed, with the reason for its loss."""
        now = time.monotonic()
        pause, self._looked = now - self._looked, now
        for handle in self.workers.busy:
            if pause > PAUSE_S:  # the driver waited for free disk space, or was suspended
                handle.extend(pause, now)
            assert handle.job is not None, "Should not reach."
            limit = self.deadline.seconds(handle.job.part)
            if now - handle.since > limit:
                yield handle, f"hung: not done after {limit:.0f} s (workers.trial_timeout)"
        for handle in self._alive_while_opening():
            handle.seen_alive(now)
            if now - handle.since > INITIAL_TIMEOUT_S:
                yield handle, f"hung: not open after {INITIAL_TIMEOUT_S:.0f} s"

    def _alive_while_opening(self) -> list[WorkerHandle]:
        """Return the workers that have started to open the sources; the others wait for a node with room."""
        opening = {handle.ping: handle for handle in self.workers.opening}
        if not opening:
            return []
        alive, _ = self.ray.wait(list(opening), num_returns=len(opening), timeout=0)
        return [opening[ping] for ping in alive]
