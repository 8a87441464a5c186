"""The rule that decides whether a scorer agrees with lm-eval's scorer.

In float32 and float64 the items must be identical. In lower precision, log-likelihoods must agree within the tolerance
of the dtype. A greedy answer can then differ only if its margin is below the tolerance, and a choice only if its margin
is below twice the tolerance, since either log-likelihood may deviate by it. A fixed share of the generations of a
configured task, over all of its leaves and candidates, may differ (see `too_many`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..lm_eval_bridge.live_hflm import Pair
from ..scoring.hflm_scorer import item_name
from ..scoring.item_values import leaf_scores
from ..tasks.requests import Request
from ..tasks.suite_content import LeafTask

# Largest difference of log-likelihoods: the first number in nat, plus the second times their magnitude.
TOLERANCES: Mapping[torch.dtype, tuple[float, float]] = {
    torch.float64: (2e-4, 1e-5),
    torch.float32: (2e-4, 1e-5),
    torch.float16: (0.02, 0.002),
    torch.bfloat16: (0.125, 0.01),  # a logit between 16 and 32 is rounded to eighths
}
EXACT = (torch.float32, torch.float64)
GENERATIONS = 1 / 8  # the share of sampled generations that may differ, since rounding can decide between tokens


@dataclass(frozen=True)
class Answers:
    """The answers of one scorer for the sampled items of a task, per request, and their values, per item."""

    resps: Sequence[Sequence[Any]]
    values: np.ndarray


class DisagreementError(ValueError):
    """A scorer differs from lm-eval's by more than the rule allows; the message names the item."""


def answers(leaf: LeafTask, ids: Sequence[int]) -> Answers:
    """Collect the answers currently stored in the lm-eval instances of a task's items, and score them."""
    resps = [list(request.instance.resps) for doc in ids for request in leaf.requests[doc]]
    return Answers(resps, leaf_scores(leaf, ids, {}).values)


def too_many(differing: int, compared: int) -> bool:
    """Return whether more of the sampled generations differ than allowed; one always may."""
    return differing > max(1, GENERATIONS * compared)


def compare(
    leaf: LeafTask, ids: Sequence[int], ours: Answers, reference: Answers, model: Any, max_length: int
) -> tuple[float, list[str]]:
    """Compare the answers of two scorers on one model.

    The number of differing generations is not limited here; see `too_many`.

    Args:
        leaf: the task.
        ids: the compared documents.
        ours: the answers of our scorer.
        reference: the answers of lm-eval's scorer.
        model: the model that gave the answers.
        max_length: the largest number of positions in a sequence.

    Returns:
        The largest difference of log-likelihoods in nat, and the items that differ within the rule.

    Raises:
        DisagreementError: an item differs by more than the rule allows.
    """
    exact = model.dtype in EXACT
    requests = [request for doc in ids for request in leaf.requests[doc]]
    gaps = [_gap(*three, model, max_length) for three in zip(requests, ours.resps, reference.resps, strict=True)]
    texts = {
        request.instance.doc_id
        for request, a, b in zip(requests, ours.resps, reference.resps, strict=True)
        if request.is_generation and a != b
    }
    near = np.isclose(ours.values, reference.values, rtol=1e-4, atol=1e-6, equal_nan=True)
    close: list[bool] = [bool(np.all(row)) for row in np.asarray(near)]
    differing = []
    for doc, same, value, expected in zip(ids, close, ours.values, reference.values, strict=True):
        if not same or doc in texts:
            difference = "has a different answer" if same else f"scores {value}, by lm-eval {expected}"
            differing.append(f"item {doc} of {leaf.task.task_name} {difference}")
    if exact and differing:
        raise DisagreementError(differing[0])
    return max(gaps, default=0.0), differing


def _gap(request: Request, ours: Sequence[Any], reference: Sequence[Any], model: Any, max_length: int) -> float:
    """Return the largest difference of a request's log-likelihoods in nat; 0 for generated text."""
    if request.is_generation:
        return 0.0
    largest = 0.0
    for answer, expected_answer in zip(ours, reference, strict=True):
        (value, greedy), (expected, expected_greedy) = (
            x if isinstance(x, tuple) else (x, True) for x in (answer, expected_answer)
        )
        gap, tolerance = abs(value - expected), allowed(model.dtype, expected)
        item = item_name(request.instance)
        if not gap <= tolerance:
            raise DisagreementError(f"{item}: its log-likelihood is {value:.6g}, by lm-eval {expected:.6g}")
        if greedy != expected_greedy and (request.pair is None or margin(model, request.pair, max_length) > tolerance):
            raise DisagreementError(f"{item}: greedy decoding gives its answer by one scorer and not by the other")
        largest = max(largest, gap)
    return largest


def allowed(dtype: torch.dtype, value: float) -> float:
    """Return by how much two log-likelihoods of about this value may differ, in nat."""
    fixed, relative = TOLERANCES.get(dtype, TOLERANCES[torch.bfloat16])
    return fixed + relative * abs(value)


@torch.inference_mode()
def margin(model: Any, pair: Pair, max_length: int) -> float:
    """Return by how much logits must change, in nat, before an answer becomes or stops being the greedy one."""
    _, context, answer = pair
    context = context[-(max_length + 1 - len(answer)) :]  # as in `rows.py`
    tokens = torch.tensor([[*context, *answer[:-1]]], device=model.device)
    scores = model(tokens).logits[0, -len(answer) :].float().log_softmax(-1)
    chosen = torch.tensor(answer, device=model.device)[:, None]
    answer_scores = scores.gather(1, chosen)[:, 0]
    best_others = scores.scatter(1, chosen, float("-inf")).amax(1)
    return abs(float((answer_scores - best_others).min()))
