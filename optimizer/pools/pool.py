"""The interface between the driver of a search and those who score candidates.

A pool works in block events: after each block of items the driver is told and answers whether to go on. So a driver
can drop a candidate early, whatever the pool. A pool only reports that a worker is lost; what becomes of its candidate
is decided by the driver (`dispatch.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from ...evaluators import BlockScores, Part, ScoringPlan
from ...merge_ops import Recipe


@dataclass(frozen=True)
class Job:
    """A candidate to score on one part; `digest`: the digest of its merged weights is wanted too."""

    number: int
    recipe: Recipe
    part: Part
    digest: bool = False


@dataclass(frozen=True)
class BlockDone:
    """One block of a job is scored; the pool waits for `answer`."""

    number: int
    scores: BlockScores
    merge_seconds: float


@dataclass(frozen=True)
class Finished:
    """A job is over: all of its blocks are scored, or the driver stopped it.

    `worker` is who did it, empty for this process; `digest`, where it was asked for, is (name of the device, digest of
    the merged weights).
    """

    number: int
    worker: str = ""
    digest: tuple[str, str] | None = None


@dataclass(frozen=True)
class Failed:
    """A job failed; `error` is what the candidate's record says."""

    number: int
    error: str
    worker: str = ""


@dataclass(frozen=True)
class Lost:
    """The worker of a job is gone, and what it had scored with it.

    Attributes:
        worker: its name.
        place: where it was: the node and the GPUs.
        error: how it was lost.
        seconds: how long it had worked on the job.
        counts: whether the job may be to blame; not when the node left, or when the worker was gone before it began.
    """

    number: int
    worker: str
    place: str
    error: str
    seconds: float
    counts: bool


Event = BlockDone | Finished | Failed | Lost


class Pool(Protocol):
    """Workers. The driver submits while `free` > 0, takes events, and answers every `BlockDone`."""

    @property
    def free(self) -> int:
        """How many more jobs can be taken now."""
        ...

    @property
    def worker_counts(self) -> tuple[int, int]:
        """How many workers are ready, and how many there should be."""
        ...

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        """Take a job; there must be a free worker. One at another place than those to `avoid` is preferred."""
        ...

    def next_event(self) -> Event | None:
        """Wait for the next event of any job; None when there is none yet, or when workers have come or gone."""
        ...

    def answer(self, number: int, *, go_on: bool) -> None:
        """Say whether a job whose block is done goes on."""
        ...

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(session, *args)` by a worker that has no job; waits for the result. What it raises is raised."""
        ...

    def use(self, plan: ScoringPlan) -> None:
        """Have every worker score by this plan, those too that come later."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...
