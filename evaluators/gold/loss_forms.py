"""Differentiable losses of gold answers, computed from the logits that predict them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .gold_items import GoldItem

Form = Literal["nll", "prob", "margin"]


@dataclass(frozen=True)
class RequestScore:
    """The log-likelihood of a request's tokens in nat, their smallest margin in logits, and their number.

    Log-likelihood or margin is None if the loss does not need it. A token's margin is its logit minus the largest
    logit of the other tokens: positive if greedy decoding gives the token.
    """

    likelihood: Tensor | None
    margin: Tensor | None
    tokens: int


def token_likelihoods(logits: Tensor, candidates: Tensor, valid: Tensor) -> Tensor:
    """Return the log-probability that a position's token is one of its candidates, (m,).

    Args:
        logits: (m, vocabulary).
        candidates: (m, k) token ids.
        valid: (m, k) bool, False for padding.
    """
    chosen = logits.gather(1, candidates).masked_fill(~valid, -torch.inf)
    return chosen.logsumexp(1) - logits.logsumexp(1)


def token_margins(logits: Tensor, candidates: Tensor, valid: Tensor) -> Tensor:
    """Return by how much the best candidate's logit exceeds that of every other token, (m,).

    Arguments as in `token_likelihoods`.
    """
    chosen = logits.gather(1, candidates).masked_fill(~valid, -torch.inf)
    # Padding repeats a candidate, so it removes no other token.
    rivals = logits.scatter(1, candidates, -torch.inf)
    return chosen.amax(1) - rivals.amax(1)


def needs(items: Sequence[GoldItem], form: Form) -> tuple[bool, bool]:
    """Return whether the losses of these items need log-likelihoods, and whether they need margins."""
    answers = [item.kind == "answer" for item in items]
    return form != "margin" or not all(answers), form == "margin" and any(answers)


def item_loss(item: GoldItem, scores: Sequence[RequestScore], form: Form) -> Tensor:
    """Return the loss of an item, a scalar: about 0 if the model is certain of the gold answer.

    "nll" is the negative log-likelihood per token, or for choices the cross entropy over their scores; "prob" is 1
    minus the probability of the whole answer, or of the right choices; "margin" is the sigmoid of the negative margin,
    so it is below 0.5 if the answer is right. Texts have the negative log-likelihood per token in all forms.
    """
    if item.kind == "text":
        return -sum_of([_required(score.likelihood) * f for score, f in zip(scores, item.factors, strict=True)])
    if item.kind == "choices":
        return _choice_loss(item, scores, form)
    (score,) = scores
    if form == "margin":
        return torch.sigmoid(-_required(score.margin))
    likelihood = _required(score.likelihood)
    return -likelihood / score.tokens if form == "nll" else -torch.expm1(likelihood)


def _choice_loss(item: GoldItem, scores: Sequence[RequestScore], form: Form) -> Tensor:
    terms = torch.stack([_required(score.likelihood) * f for score, f in zip(scores, item.factors, strict=True)])
    count = len(terms) // 2 if min(item.factors) < 0.0 else len(terms)
    values = terms.view(-1, count).sum(0)
    right = torch.zeros(count, dtype=torch.bool, device=values.device)
    right[list(item.golds)] = True
    if form == "margin":
        if bool(right.all()):
            return values.sum() * 0.0
        return torch.sigmoid(values[~right].amax() - values[right].amax())
    likelihood = values[right].logsumexp(0) - values.logsumexp(0)
    return -likelihood if form == "nll" else -torch.expm1(likelihood)


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """Return the sum of scalars."""
    return torch.stack(list(terms)).sum()


def _required(value: Tensor | None) -> Tensor:
    assert value is not None, "Should not reach."
    return value


def item_losses(items: Sequence[GoldItem], scores: Mapping[int, RequestScore], form: Form) -> Tensor:
    """Return the losses of items, (items,); `scores` maps the numbers of requests, counted over all items."""
    losses, first = [], 0
    for item in items:
        numbers = range(first, first + len(item.requests))
        losses.append(item_loss(item, [scores[number] for number in numbers], form))
        first = numbers.stop
    return torch.stack(losses)
