"""The comparison of one task's scorer with lm-eval's on one candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from mergesmith.errors import UserError

from ..inference.cuda_graphs import GraphCache
from ..inference.device_errors import is_device_lost, is_out_of_memory, release
from ..inference.prefix_cache import PrefixCaches
from ..records import InsufficientMemoryError, ScoringError, UnsupportedError
from ..scoring.hflm_scorer import hflm_answers
from ..scoring.leaf_requests import LeafRequests
from ..scoring.prepared_requests import PreparedRequests
from ..scoring.scorers import HF, Scorer
from ..scoring.token_budget import CPU_BUDGET, LEAST_BUDGET, fitting_budget
from ..tasks.requests import Request
from ..tasks.suite_content import SuiteContent
from .agreement import Answers, answers, compare
from .task_ladder import TaskLadder

TIMED_RUNS = 2  # of which the faster counts


@dataclass(frozen=True)
class ScorerComparison:
    """The result for one task on one candidate; see `TaskCheck` for the fields."""

    compared: int = 0
    largest: float = 0.0
    differing: tuple[str, ...] = ()
    forced: str = ""


class CandidateCheck:
    """Compares scorers with lm-eval's on one candidate after another, with batches that fit into memory.

    Attributes:
        budget: tokens per batch; None until the first candidate shows how many fit.
    """

    def __init__(self, content: SuiteContent) -> None:
        self.content, self.budget = content, content.config.scoring.token_budget
        self._graphs = GraphCache()

    def fit_budget(self, model: Any) -> None:
        """Find the token budget on the first candidate, unless the user has set it."""
        self.budget = self.budget or fitting_budget(self.content, model)

    def compare(self, task: TaskLadder, model: Any, candidate: str) -> ScorerComparison:
        """Compare a task's scorer on a candidate; one that disagrees or fails is replaced by the next slower one.

        Raises:
            ScoringError: lm-eval cannot score the candidate.
            UserError: the task cannot be scored at all.
        """
        try:
            self._run_hflm(task.requests)  # for tasks scored by HFLM too: it finds how many rows fit into memory
        except InsufficientMemoryError as error:
            if task.slowest == HF:
                raise
            task.keep_slowest()
            return ScorerComparison(forced=f"forced, and not checked on {candidate}: {error}")
        expected = None if task.scorer == HF else answers(task.leaf, task.sample)
        while expected is not None and task.scorer != HF:
            try:
                largest, differing = self._compare(task, model, expected)
            except UserError:
                raise
            except Exception as error:  # a model can fail in many ways inside an unsuitable scorer
                if is_device_lost(error):
                    raise
                if is_out_of_memory(error) and self._halve_budget():
                    continue
                explained = isinstance(error, (ValueError, ScoringError))
                reason = f"on {candidate} {error if explained else f'{type(error).__name__}: {error}'}"
                if task.scorer == task.slowest:  # the user forces this one
                    return ScorerComparison(forced=f"forced, although {reason}")
                task.reject(reason)
            else:
                named = tuple(f"{candidate}, {item}" for item in differing)
                return ScorerComparison(len(task.sample), largest, named)
        return ScorerComparison()

    def _compare(self, task: TaskLadder, model: Any, expected: Answers) -> tuple[float, list[str]]:
        prepared = self._prepare(task, model, task.scorer)
        prepared.run(model, PrefixCaches(model), self._graphs)
        ours, max_length = answers(task.leaf, task.sample), self.content.lm.max_length
        result = compare(task.leaf, task.sample, ours, expected, model, max_length)
        if task.scorer.name == "graphs" and not task.graphs_timed:
            self._check_faster(prepared, self._prepare(task, model, replace(task.scorer, name="loop")), model)
            task.accept_graphs()
        return result

    def _prepare(self, task: TaskLadder, model: Any, scorer: Scorer) -> PreparedRequests:
        task.check_model(model, scorer)
        return PreparedRequests.prepare(
            [LeafRequests.of(task.leaf, task.sample, scorer)],
            self.content.lm,
            token_budget=self.budget or CPU_BUDGET,
            share_logits=self.content.share_logits,
        )

    def _check_faster(self, graphs: PreparedRequests, loop: PreparedRequests, model: Any) -> None:
        """Time both, without the capture of the graphs, and reject graphs that are not faster.

        Raises:
            UnsupportedError: graphs are not faster.
        """
        graphs_s, loop_s = self._seconds(graphs, model), self._seconds(loop, model)
        if graphs_s >= loop_s:
            raise UnsupportedError(f"it takes {graphs_s:.2g} s, the loop only {loop_s:.2g} s")

    def _seconds(self, prepared: PreparedRequests, model: Any) -> float:
        runs = []
        for _ in range(TIMED_RUNS):
            started = perf_counter()
            prepared.run(model, PrefixCaches(model), self._graphs)
            runs.append(perf_counter() - started)
        return min(runs)

    def _run_hflm(self, requests: Sequence[Request]) -> None:
        """Store lm-eval's answers in the instances, with as many rows per batch as fit into memory.

        Raises:
            InsufficientMemoryError: not even one row fits.
            ScoringError: NaN or infinite log-likelihoods or logits.
        """
        lm = self.content.lm
        while True:
            try:
                hflm_answers(lm, requests, share_logits=self.content.share_logits)
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            release()  # outside the handler, whose exception keeps the failed attempt's tensors alive
            if not lm.halve_batches():
                raise InsufficientMemoryError("out of memory in lm-eval's scorer, even with one row per batch")

    def _halve_budget(self) -> bool:
        """Halve the token budget; return False when it has become too small."""
        self._graphs.clear()
        release()
        self.budget = (self.budget or CPU_BUDGET) // 2
        return self.budget >= LEAST_BUDGET
