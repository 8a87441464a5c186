"""The interface between the driver of a search and the workers that score candidates.

A pool reports every scored block of items, and the driver answers whether to continue, so that it can drop a candidate
early. A pool reports that a worker is lost; the driver decides whether its candidate is retried
(`search/dispatcher.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from ...evaluators import BlockScores, Part, ScoringPlan
from ...merge_ops import Recipe
from ..proposal import Proposal, Slopes


@dataclass(frozen=True)
class Job:
    """A candidate to score on one part of the items.

    With `digest`, the digest of its merged weights is computed too. With `probe`, the job computes the loss of the gold
    answers, or the derivatives of the loss by the merge weights, instead of scores.
    """

    number: int
    recipe: Recipe
    part: Part
    digest: bool = False
    probe: Proposal | None = None


@dataclass(frozen=True)
class BlockDone:
    """One block of a job has been scored; the pool waits for `answer`."""

    number: int
    scores: BlockScores
    merge_seconds: float


@dataclass(frozen=True)
class Finished:
    """A job is over: all of its blocks are scored, or the driver stopped it.

    Attributes:
        worker: the name of the worker; empty for this process.
        digest: (device name, digest of the merged weights) if the job requested it.
        slopes: the result of a probe.
    """

    number: int
    worker: str = ""
    digest: tuple[str, str] | None = None
    slopes: Slopes | None = None


@dataclass(frozen=True)
class Failed:
    """A job failed; `error` goes into the candidate's record."""

    number: int
    error: str
    worker: str = ""


@dataclass(frozen=True)
class Lost:
    """The worker of a job is gone, and with it the blocks that it had scored.

    Attributes:
        worker: its name.
        place: its node and GPUs.
        error: why it was lost.
        seconds: how long it had worked on the job.
        counts: whether the job may be the cause: false if the node left, or the worker died before the job arrived.
    """

    number: int
    worker: str
    place: str
    error: str
    seconds: float
    counts: bool


Event = BlockDone | Finished | Failed | Lost


class Pool(Protocol):
    """A pool of workers. The driver submits while `free` > 0, takes events, and answers every `BlockDone`."""

    @property
    def free(self) -> int:
        """The number of jobs that can be submitted now."""
        ...

    @property
    def worker_counts(self) -> tuple[int, int]:
        """The numbers of workers that are ready, and that there should be."""
        ...

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        """Give a job to a free worker, if possible at none of the places in `avoid`; `free` must be above 0."""
        ...

    def next_event(self) -> Event | None:
        """Wait for the next event of any job; return None if there is none yet, or if workers have come or gone."""
        ...

    def answer(self, number: int, *, go_on: bool) -> None:
        """Continue or end a job whose block is done."""
        ...

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(session, *args)`, computed by a worker without a job; its exceptions are raised here."""
        ...

    def use(self, plan: ScoringPlan) -> None:
        """Have every worker score by this plan, including workers that start later."""
        ...

    def close(self) -> None:
        """Release the workers."""
        ...
