"""Pools of workers that score candidates: in this process, on Ray, or repeating a recorded run."""

from .local import LocalPool
from .pool import BlockDone, Event, Failed, Finished, Job, Lost, Pool

__all__ = ["BlockDone", "Event", "Failed", "Finished", "Job", "LocalPool", "Lost", "Pool"]
