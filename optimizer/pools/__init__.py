"""Who scores candidates: the pool's interface, the pool that works in this process, and the one on Ray."""

from .local import LocalPool
from .pool import BlockDone, Event, Failed, Finished, Job, Lost, Pool

__all__ = ["BlockDone", "Event", "Failed", "Finished", "Job", "LocalPool", "Lost", "Pool"]
