"""The interface between the driver of a search and those who score candidates.

A pool works in block events: after each block of items the driver is told and answers whether to go on. So a driver
can drop a candidate early, whatever the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...evaluators import BlockScores, Part
from ...merge_ops import Recipe


@dataclass(frozen=True)
class Job:
    """A candidate to score on one part."""

    number: int
    recipe: Recipe
    part: Part


@dataclass(frozen=True)
class BlockDone:
    """One block of a job is scored; the pool waits for `answer`."""

    number: int
    scores: BlockScores
    merge_seconds: float


@dataclass(frozen=True)
class Finished:
    """A job is over: all of its blocks are scored, or the driver stopped it."""

    number: int


@dataclass(frozen=True)
class Failed:
    """A job failed; `error` is what the candidate's record says."""

    number: int
    error: str


Event = BlockDone | Finished | Failed


class Pool(Protocol):
    """Workers. The driver submits while `free` > 0, takes events, and answers every `BlockDone`."""

    @property
    def free(self) -> int:
        """How many more jobs can be taken now."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; there must be a free worker."""
        ...

    def next_event(self) -> Event:
        """Wait for the next event of any job; there must be a job."""
        ...

    def answer(self, number: int, *, go_on: bool) -> None:
        """Say whether a job whose block is done goes on."""
        ...
