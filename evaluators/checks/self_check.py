"""Which scorer each task may be scored with: samples through ours and through lm-eval's own, item by item.

A scorer that does not agree (see `agreement.py`) on one model is replaced by the next slower one for all models, and
all are checked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from mergesmith.errors import UserError

from ..inference.attention import check_prefix
from ..inference.cuda_graphs import GraphCache, cache_length, check_recordable
from ..inference.out_of_memory import is_out_of_memory, release
from ..inference.prefix_cache import PrefixCaches
from ..lm_eval_bridge.isolation import pinned_generation
from ..records import NoRoomError, ScoringError, UnsupportedError
from ..scoring.hflm_scorer import hflm_answers
from ..scoring.leaf_requests import LeafRequests
from ..scoring.prepared_requests import PreparedRequests
from ..scoring.scorers import HF, Scorer, ScoringPlan, ScoringReport, TaskCheck, kind_of, ladder
from ..scoring.token_budget import CPU_BUDGET, LEAST, fitting_budget
from ..tasks.requests import Request
from ..tasks.suite_content import LeafTask, SuiteContent
from .agreement import answers, compare, too_many

Candidates = Callable[[], Iterable[tuple[str, Callable[[], Any]]]]  # names, and what gives a model its weights

SAMPLE = 8  # items of a task: its longest ones and some spread over the rest; fewer of each where a group has many
FEWEST = 2


class SelfCheck:
    """Compares scorers on the sampled items of every task. Run it where lm-eval is quiet (`inside_lm_eval`)."""

    def __init__(self, content: SuiteContent) -> None:
        """Prepare a check.

        Args:
            content: the tasks.
            choice: the user's, "auto" for the fastest that passes.
            token_budget: tokens per batch; None is what fits the first candidate's device.
        """
        self.content, self.budget = content, content.config.scoring.token_budget
        shares = {leaf.name: len(entry.leaves) for entry in content.entries for leaf in entry.leaves}
        self._samples = {n: sample(leaf, max(FEWEST, SAMPLE // shares[n])) for n, leaf in content.leaves.items()}
        self._rungs = {n: list(self._possible(n)) for n in content.leaves}
        self._refused: dict[str, list[str]] = {name: [] for name in content.leaves}
        self._steps = GraphCache()
        self._timed: set[str] = set()  # tasks that graphs were found to be faster for

    def run(self, candidates: Candidates) -> ScoringReport:
        """Check all candidates until none of them refuses a scorer any more.

        Raises:
            ScoringError: no candidate can be scored by lm-eval.
        """
        while True:
            rungs = {name: rungs[0] for name, rungs in self._rungs.items()}
            checks = {n: TaskCheck(rung, refused=self._refused[n]) for n, rung in rungs.items()}
            unchecked: list[str] = []
            first: ScoringError | None = None
            checked = 0
            for name, load in candidates():
                try:
                    model = load()
                    self.content.lm.attach(model)
                    with pinned_generation(model, self.content.lm.tokenizer):
                        self.budget = self.budget or fitting_budget(self.content, model)
                        for leaf, check in checks.items():
                            self._check(leaf, model, check, name)
                except UserError:
                    raise
                except Exception as error:  # whatever is wrong with one model, the run goes on without it
                    reason = str(error) if isinstance(error, ScoringError) else f"{type(error).__name__}: {error}"
                    first = first or ScoringError(reason)
                    unchecked.append(f"{name} takes no part in the check of the scorers: {reason}")
                else:
                    checked += 1
                    continue
                release()
            if first is not None and not checked:
                raise first
            refused = self._refuse_generations(checks)
            # A scorer that took another's place has not seen the candidates before.
            if not refused and (checked < 2 or rungs == {name: rungs[0] for name, rungs in self._rungs.items()}):
                scorers = {name: check.scorer for name, check in checks.items()}
                plan = ScoringPlan(scorers, self.budget or CPU_BUDGET, self.content.lm.batch_size_per_gpu)
                return ScoringReport(plan, checks, tuple(unchecked))

    def _possible(self, name: str) -> Iterator[Scorer]:
        """The rungs of a task's ladder that make sense before any model is looked at."""
        for scorer in ladder(kind_of(self.content.leaves[name].all_requests()), self.content.config.scoring.scorer):
            shared = bool(self.content.leaves[name].shared_prefix)
            # Graphs are held against the loop that would take their place: where a start is shared, in that form alone.
            if scorer.prefix <= shared and (scorer.name != "graphs" or scorer.prefix == shared):
                yield scorer

    def _prepared(self, name: str, model: Any, scorer: Scorer) -> PreparedRequests:
        lm = self.content.lm
        if scorer.prefix:
            check_prefix(model, self._longest(name))
        if scorer.name == "graphs":
            check_recordable(model, cache_length(self._longest(name)))
        return PreparedRequests.prepare(
            [LeafRequests.of(self.content.leaves[name], self._samples[name], scorer)],
            lm,
            token_budget=self.budget or CPU_BUDGET,
            share_logits=self.content.share_logits,
        )

    def _longest(self, name: str) -> int:
        """Tokens of a task's longest sequence, with the longest answer that it allows."""
        every = self.content.leaves[name].all_requests()
        new = [self.content.lm.most_new_tokens(request.arguments[1]) for request in every if request.is_generation]
        return max(request.length for request in every) + max(new, default=0)

    def _check(self, name: str, model: Any, check: TaskCheck, candidate: str) -> None:
        """Compare one task on one candidate; what disagrees is replaced by the next slower scorer."""
        rungs = self._rungs[name]
        leaf, ids = self.content.leaves[name], self._samples[name]
        requests = [request for doc in ids for request in leaf.requests[doc]]
        try:
            self._harness(requests)  # where it is the scorer too, for the rows that memory has room for
        except NoRoomError as error:
            if rungs[-1] == HF:
                raise
            del rungs[:-1]  # the user's choice stands, in its plainest form
            check.scorer = rungs[0]
            check.forced = check.forced or f"forced, and not checked on {candidate}: {error}"
            return
        if rungs[0] == HF:
            return
        theirs = answers(leaf, ids)
        while rungs[0] != HF:
            try:
                work = self._prepared(name, model, rungs[0])
                work.run(model, PrefixCaches(model), self._steps)
                largest, differing = compare(leaf, ids, answers(leaf, ids), theirs, model, self.content.lm.max_length)
                if rungs[0].name == "graphs" and name not in self._timed:
                    loop = self._prepared(name, model, replace(rungs[0], name="loop"))
                    self._check_faster(work, loop, model)
                    self._timed.add(name)
            except UserError:
                raise
            except Exception as error:  # models fail in many ways on what they were not made for
                if is_out_of_memory(error) and self._less():
                    continue
                told = isinstance(error, (ValueError, ScoringError))
                reason = str(error) if told else f"{type(error).__name__}: {error}"
                if len(rungs) == 1:  # the user's choice stands
                    check.forced = check.forced or f"forced, although on {candidate} {reason}"
                    return
                self._refused[name].append(f"not by {rungs.pop(0)}: on {candidate} {reason}")
                check.scorer = rungs[0]
            else:
                check.compared += len(ids)
                check.largest = max(check.largest, largest)
                check.differing += [f"{candidate}, {place}" for place in differing]
                return

    def _check_faster(self, graphs: PreparedRequests, loop: PreparedRequests, model: Any) -> None:
        """Hold the seconds of both against each other, the better of two runs each; the graphs are recorded already.

        Raises:
            UnsupportedError: graphs are not faster.
        """
        seconds = []
        for work in (graphs, loop):
            runs = []
            for _ in range(2):
                started = perf_counter()
                work.run(model, PrefixCaches(model), self._steps)
                runs.append(perf_counter() - started)
            seconds.append(min(runs))
        if seconds[0] >= seconds[1]:
            raise UnsupportedError(f"it takes {seconds[0]:.2g} s where the loop takes {seconds[1]:.2g} s")

    def _refuse_generations(self, checks: Mapping[str, TaskCheck]) -> bool:
        """Replace the generation loop where too many answers of a configured task differ, over leaves and models."""
        refused = False
        for entry in self.content.entries:
            found = {leaf.name: checks[leaf.name] for leaf in entry.leaves if leaf.name in checks}
            loops = {name: check for name, check in found.items() if check.scorer.name in ("graphs", "loop")}
            differing = sum(len(check.differing) for check in loops.values())
            compared = sum(check.compared for check in loops.values())
            if not too_many(differing, compared):
                continue
            for name, check in loops.items():
                if check.differing:
                    rung = self._rungs[name].pop(0)
                    told = f"{differing} of {compared} generated answers of '{entry.name}' differ"
                    self._refused[name].append(f"not by {rung}: {told}, such as: {check.differing[0]}")
                    refused = True
        return refused

    def _harness(self, requests: Sequence[Request]) -> None:
        """The answers by lm-eval, which holds the logits of whole batches: with as many rows as memory has room for."""
        lm = self.content.lm
        while True:
            try:
                hflm_answers(lm, requests, share_logits=self.content.share_logits)
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            release()
            if lm.batch_size_per_gpu == 1:
                raise NoRoomError("out of memory in lm-eval's own scorer, with one row per batch")
            lm.batch_size_per_gpu //= 2

    def _less(self) -> bool:
        """Halve the token budget; False where it is as small as it may be."""
        self._steps.clear()
        release()
        self.budget = (self.budget or CPU_BUDGET) // 2
        return self.budget >= LEAST


def sample(leaf: LeafTask, count: int) -> tuple[int, ...]:
    """Ids of the longest items of a task, and of as many spread over the others, ascending."""
    by_length = sorted(leaf.requests, key=lambda doc: -max(request.length for request in leaf.requests[doc]))
    longest, rest = by_length[: count // 2], sorted(by_length[count // 2 :])
    more = min(len(rest), count - len(longest))
    return tuple(sorted([*longest, *(rest[i * len(rest) // more] for i in range(more))]))
