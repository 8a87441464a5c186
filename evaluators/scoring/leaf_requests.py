"""The requests of one leaf task together with the way to score them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..tasks.requests import Request
from ..tasks.suite_content import LeafTask
from .scorers import Scorer


@dataclass(frozen=True)
class LeafRequests:
    """Requests of one leaf.

    Attributes:
        requests: in the order of their documents.
        scorer: how they are scored.
        prefix: the tokens that all prompts of the task begin with, if the scorer reads them only once; else ().
    """

    requests: Sequence[Request]
    scorer: Scorer
    prefix: tuple[int, ...]

    @classmethod
    def of(cls, leaf: LeafTask, documents: Iterable[int], scorer: Scorer) -> LeafRequests:
        """Collect the requests of these documents."""
        requests = [request for doc in documents for request in leaf.requests[doc]]
        return cls(requests, scorer, leaf.shared_prefix if scorer.prefix else ())
