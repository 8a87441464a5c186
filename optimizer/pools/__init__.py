"""Who scores candidates: the pool's interface, and the pool that works in this process."""

from .local import LocalPool
from .pool import BlockDone, Event, Failed, Finished, Job, Pool

__all__ = ["BlockDone", "Event", "Failed", "Finished", "Job", "LocalPool", "Pool"]
