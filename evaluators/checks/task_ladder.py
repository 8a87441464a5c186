"""The scorers that are possible for one task, and the items that they are compared on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..config import ScorerChoice
from ..inference.attention import check_prefix
from ..inference.cuda_graphs import cache_length, check_recordable
from ..lm_eval_bridge.isolation import generation_settings
from ..lm_eval_bridge.live_hflm import LiveLM
from ..records import UnsupportedError
from ..scoring.scorers import Scorer, kind_of, ladder
from ..tasks.requests import Request
from ..tasks.suite_content import LeafTask


class TaskLadder:
    """A task's scorers, fastest first; a rejected one is replaced by the next.

    Attributes:
        name: the leaf task's name.
        sample: ids of the documents that scorers are compared on.
        graphs_timed: whether CUDA graphs have been found faster than the plain loop for this task.
    """

    def __init__(self, name: str, leaf: LeafTask, lm: LiveLM, *, choice: ScorerChoice, sample_size: int) -> None:
        self.name, self.leaf, self.lm = name, leaf, lm
        self.sample = sample(leaf, sample_size)
        self.graphs_timed = False
        self._rungs = list(_possible(leaf, choice))
        self._rejected: list[str] = []

    @property
    def scorer(self) -> Scorer:
        """The fastest scorer that has not been rejected."""
        return self._rungs[0]

    @property
    def slowest(self) -> Scorer:
        """The last scorer of the ladder: HFLM, unless the user forces another."""
        return self._rungs[-1]

    @property
    def rejected(self) -> tuple[str, ...]:
        """Why faster scorers were rejected, one clause each."""
        return tuple(self._rejected)

    @property
    def requests(self) -> list[Request]:
        """The requests of the sampled documents."""
        return [request for doc in self.sample for request in self.leaf.requests[doc]]

    def reject(self, reason: str) -> None:
        """Replace the present scorer by the next slower one."""
        self._rejected.append(f"not by {self._rungs.pop(0)}: {reason}")

    def keep_slowest(self) -> None:
        """Drop all scorers but the last, without a reason to report."""
        del self._rungs[:-1]

    def accept_graphs(self) -> None:
        """Note that CUDA graphs are faster for this task, so that no other candidate is timed."""
        self.graphs_timed = True

    def check_model(self, model: Any, scorer: Scorer) -> None:
        """Check that a scorer supports a model.

        Raises:
            UnsupportedError: it does not.
        """
        if scorer.name in ("graphs", "loop") and (settings := generation_settings(model)):
            named = ", ".join(f"{key}: {value}" for key, value in settings.items())
            raise UnsupportedError(f"its generation_config.json sets {named}")
        if scorer.prefix:
            check_prefix(model, self._longest_sequence())
        if scorer.name == "graphs":
            check_recordable(model, cache_length(self._longest_sequence()))

    def _longest_sequence(self) -> int:
        """Return the number of tokens in the task's longest sequence, including the longest answer that it allows."""
        requests = self.leaf.all_requests()
        new = [self.lm.most_new_tokens(request.arguments[1]) for request in requests if request.is_generation]
        return max(request.length for request in requests) + max(new, default=0)


def sample(leaf: LeafTask, count: int) -> tuple[int, ...]:
    """Return the ids of `count` documents, ascending: half of them the longest, the rest spread over the others."""
    by_length = sorted(leaf.requests, key=lambda doc: -max(request.length for request in leaf.requests[doc]))
    longest, rest = by_length[: count // 2], sorted(by_length[count // 2 :])
    more = min(len(rest), count - len(longest))
    return tuple(sorted([*longest, *(rest[i * len(rest) // more] for i in range(more))]))


def _possible(leaf: LeafTask, choice: ScorerChoice) -> Iterator[Scorer]:
    """Yield the scorers of a task's ladder that do not depend on the model."""
    scorers: Sequence[Scorer] = ladder(kind_of(leaf.all_requests()), choice)
    shared = bool(leaf.shared_prefix)
    for scorer in scorers:
        # CUDA graphs are compared with the plain loop they replace; with a shared prefix, only the prefix variant is.
        if scorer.prefix <= shared and (scorer.name != "graphs" or scorer.prefix == shared):
            yield scorer
