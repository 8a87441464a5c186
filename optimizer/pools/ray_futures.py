"""The remote calls of a Ray pool that have completed, one at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import Any

TICK_S = 0.25  # longest wait, after which the driver checks signals, deadlines and the cluster


class CompletedFutures:
    """Returns completed futures in the order in which Ray reports them."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self._completed: deque[Any] = deque()

    def next(self, futures: Collection[Any]) -> Any | None:
        """Return a future that is complete; None if none completes within a tick."""
        self._completed = deque(future for future in self._completed if future in futures)
        if not futures:
            time.sleep(TICK_S)
            return None
        if not self._completed:
            done, _ = self.ray.wait(list(futures), num_returns=1, timeout=TICK_S)
            if done and len(futures) > 1:  # queue all of them, so that no worker is passed over forever
                done, _ = self.ray.wait(list(futures), num_returns=len(futures), timeout=0)
            self._completed.extend(done)
        return self._completed.popleft() if self._completed else None
