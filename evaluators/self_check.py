"""Which scorer each task may be scored with: samples through ours and through lm-eval's own, item by item.

In float32 and float64 the items must be identical. Below, log-likelihoods must agree within the tolerance of the
dtype, so an item can differ only where its margin is below it, and a stated share of generations may differ.
A scorer that fails for one model is replaced by the next slower one for all models, and all are checked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mergesmith.errors import UserError

from .attention import check_prefix
from .budget import CPU_BUDGET, fitting_budget
from .content import Content, LeafTask
from .harness import harness_answers, item_name
from .items import leaf_scores
from .live_lm import Pair
from .records import ScoringError
from .scorers import HF, Choice, Scorer, ScoringPlan, ScoringReport, TaskCheck, kind_of, ladder
from .task_items import Request
from .work import Work

Candidates = Callable[[], Iterable[tuple[str, Any]]]

SAMPLE = 8  # items of a task: its longest ones and some spread over the rest; fewer of each where a group has many
FEWEST = 2
# Log-likelihoods agree when they are closer than the first number (nat) plus the second times their size.
TOLERANCES: Mapping[torch.dtype, tuple[float, float]] = {
    torch.float64: (2e-4, 1e-5),
    torch.float32: (2e-4, 1e-5),
    torch.float16: (0.02, 0.002),
    torch.bfloat16: (0.125, 0.01),  # a logit between 16 and 32 is rounded to eighths
}
EXACT = (torch.float32, torch.float64)
GENERATIONS = 1 / 8  # the share of sampled generations that may differ where rounding decides between tokens


@dataclass(frozen=True)
class Answers:
    """What one scorer gave for the sampled items of a task: answers per request, values per item."""

    resps: Sequence[Sequence[Any]]
    values: np.ndarray


class DisagreementError(ValueError):
    """Ours and lm-eval's scorer differ by more than the rule allows; the text says where."""


class SelfCheck:
    """Compares scorers on the sampled items of every task. Run it where lm-eval is quiet (`inside_lm_eval`)."""

    def __init__(self, content: Content, choice: Choice, token_budget: int | None) -> None:
        """Prepare a check.

        Args:
            content: the tasks.
            choice: the user's, "auto" for the fastest that passes.
            token_budget: tokens per batch; None is what fits the first candidate's device.
        """
        self.content, self.budget = content, token_budget
        self.choice: Choice = choice
        shares = {leaf.name: len(entry.leaves) for entry in content.entries for leaf in entry.leaves}
        self._samples = {n: sample(leaf, max(FEWEST, SAMPLE // shares[n])) for n, leaf in content.leaves.items()}
        self._rungs = {n: list(self._possible(n)) for n in content.leaves}
        self._refused: dict[str, list[str]] = {name: [] for name in content.leaves}

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
            for name, model in candidates():
                self.content.lm.attach(model)
                self.budget = self.budget or fitting_budget(self.content, model)
                try:
                    for leaf, check in checks.items():
                        self._check(leaf, model, check, name)
                    checked += 1
                except ScoringError as error:
                    first = first or error
                    unchecked.append(f"{name} takes no part in the check of the scorers: {error}")
            if first is not None and not checked:
                raise first
            # A scorer that took another's place has not seen the candidates before.
            if checked < 2 or rungs == {name: rungs[0] for name, rungs in self._rungs.items()}:
                scorers = {name: check.scorer for name, check in checks.items()}
                return ScoringReport(ScoringPlan(scorers, self.budget or CPU_BUDGET), checks, tuple(unchecked))

    def _possible(self, name: str) -> Iterator[Scorer]:
        """The rungs of a task's ladder that make sense before any model is looked at."""
        for scorer in ladder(kind_of(self.content.leaves[name].all_requests()), self.choice):
            if not scorer.prefix or self.content.leaves[name].shared_start:
                yield scorer

    def _prepared(self, name: str, requests: Sequence[Request], model: Any) -> Work:
        scorer, lm = self._rungs[name][0], self.content.lm
        if scorer.prefix:
            every = self.content.leaves[name].all_requests()
            new = [lm.most_new_tokens(request.arguments[1]) for request in every if request.is_generation]
            check_prefix(model, max(request.length for request in every) + max(new, default=0))
        return Work(
            {name: requests},
            {name: scorer},
            {name: self.content.leaves[name].shared_start},
            lm,
            token_budget=self.budget or CPU_BUDGET,
            share_logits=self.content.share_logits,
        )

    def _check(self, name: str, model: Any, check: TaskCheck, candidate: str) -> None:
        """Compare one task on one candidate; what disagrees is replaced by the next slower scorer."""
        rungs = self._rungs[name]
        if rungs[0] == HF:
            return
        leaf, ids = self.content.leaves[name], self._samples[name]
        requests = [request for doc in ids for request in leaf.requests[doc]]
        harness_answers(self.content.lm, requests, share_logits=self.content.share_logits)
        theirs = answers(leaf, ids)
        while rungs[0] != HF:
            try:
                self._prepared(name, requests, model).run(model)
                largest, differing = compare(leaf, ids, answers(leaf, ids), theirs, model)
            except UserError:
                raise
            except Exception as error:  # models fail in many ways on what they were not made for
                reason = (
                    str(error) if isinstance(error, (ValueError, ScoringError)) else f"{type(error).__name__}: {error}"
                )
                if len(rungs) == 1:  # the user's choice stands
                    check.refused.append(f"forced, although on {candidate} {reason}")
                    return
                self._refused[name].append(f"not by {rungs.pop(0)}: on {candidate} {reason}")
                check.scorer = rungs[0]
            else:
                check.compared += len(ids)
                check.largest = max(check.largest, largest)
                check.differing += [f"{candidate}, {place}" for place in differing]
                return


def answers(leaf: LeafTask, ids: Sequence[int]) -> Answers:
    """What stands in the instances of a task's items now."""
    resps = [list(request.instance.resps) for doc in ids for request in leaf.requests[doc]]
    return Answers(resps, leaf_scores(leaf, ids, {}).values)


def compare(leaf: LeafTask, ids: Sequence[int], ours: Answers, theirs: Answers, model: Any) -> tuple[float, list[str]]:
    """The largest difference of log-likelihoods in nat, and the items that differ within the rule.

    Raises:
        DisagreementError: they differ beyond it.
    """
    exact = model.dtype in EXACT
    requests = [request for doc in ids for request in leaf.requests[doc]]
    gaps = [_gap(*three, model) for three in zip(requests, ours.resps, theirs.resps, strict=True)]
    texts = {
        request.instance.doc_id
        for request, a, b in zip(requests, ours.resps, theirs.resps, strict=True)
        if request.is_generation and a != b
    }
    near = np.isclose(ours.values, theirs.values, rtol=1e-4, atol=1e-6, equal_nan=True)
    close: list[bool] = [bool(np.all(row)) for row in np.asarray(near)]
    differing = []
    for doc, same, mine, other in zip(ids, close, ours.values, theirs.values, strict=True):
        if not same or doc in texts:
            differing.append(f"item {doc} of {leaf.task.task_name} scores {mine}, by lm-eval {other}")
    if exact and differing:
        raise DisagreementError(differing[0])
    if len(texts) > max(1, GENERATIONS * len(ids)):
        raise DisagreementError(f"{len(texts)} of {len(ids)} generated answers differ")
    return max(gaps, default=0.0), differing


def _gap(request: Request, ours: Sequence[Any], theirs: Sequence[Any], model: Any) -> float:
    """The largest difference of a request's log-likelihoods, nat; 0 for generated text."""
    if request.is_generation:
        return 0.0
    largest = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        (value, greedy), (expected, expected_greedy) = (x if isinstance(x, tuple) else (x, True) for x in (mine, other))
        gap, tolerance = abs(value - expected), allowed(model.dtype, expected)
        place = item_name(request.instance)
        if not gap <= tolerance:
            raise DisagreementError(f"{place}: its log-likelihood is {value:.6g}, by lm-eval {expected:.6g}")
        if greedy != expected_greedy and (request.pair is None or _margin(model, request.pair) > tolerance):
            raise DisagreementError(f"{place}: greedy decoding gives its answer by one scorer and not by the other")
        largest = max(largest, gap)
    return largest


def allowed(dtype: torch.dtype, value: float) -> float:
    """How far two log-likelihoods of about this value may be apart, nat."""
    fixed, relative = TOLERANCES.get(dtype, TOLERANCES[torch.bfloat16])
    return fixed + relative * abs(value)


@torch.inference_mode()
def _margin(model: Any, pair: Pair) -> float:
    """How far an answer is from becoming greedy, or from being so no more, nat."""
    _, context, answer = pair
    tokens = torch.tensor([[*context, *answer[:-1]]], device=model.device)
    scores = model(tokens).logits[0, -len(answer) :].float().log_softmax(-1)
    chosen = torch.tensor(answer, device=model.device)[:, None]
    wanted = scores.gather(1, chosen)[:, 0]
    others = scores.scatter(1, chosen, float("-inf")).amax(1)
    return abs(float((wanted - others).min()))


def sample(leaf: LeafTask, count: int) -> tuple[int, ...]:
    """Ids of the longest items of a task, and of as many spread over the others, ascending."""
    by_length = sorted(leaf.requests, key=lambda doc: -max(request.length for request in leaf.requests[doc]))
    longest, rest = by_length[: count // 2], sorted(by_length[count // 2 :])
    more = min(len(rest), count - len(longest))
    return tuple(sorted([*longest, *(rest[i * len(rest) // more] for i in range(more))]))
