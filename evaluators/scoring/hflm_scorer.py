"""Scores requests by lm-eval's HFLM: the reference of the self-check, and the fallback if no faster scorer agrees."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lm_eval.api.instance import Instance

from ..inference.generate import Generated
from ..lm_eval_bridge.live_hflm import LiveLM, NonFiniteLogitsError
from ..records import ScoringError
from ..tasks.requests import Request


def hflm_answers(lm: LiveLM, requests: Sequence[Request], *, share_logits: bool) -> list[list[Generated]]:
    """Store each request's answers by HFLM in its instance; return the generated texts, request by request.

    Raises:
        ScoringError: NaN or infinite log-likelihoods or logits.
    """
    repeated = [request for request in requests for _ in range(request.repeats)]
    for request in requests:
        request.clear()
    pairs = [(request, request.pair) for request in repeated if request.pair is not None]
    rolling = [(request, request.tokens) for request in repeated if request.tokens is not None]
    texts = [request for request in repeated if request.is_generation]
    if pairs:
        scored = lm.score_pairs([pair for _, pair in pairs], share_logits=share_logits)
        for (request, _), answer in zip(pairs, scored, strict=True):
            check_finite(answer[0], request.instance)
            request.instance.resps.append(answer)
    if rolling:
        for (request, _), total in zip(rolling, _rolling(lm, [tokens for _, tokens in rolling]), strict=True):
            check_finite(total, request.instance)
            request.instance.resps.append(total)
    if texts:
        for request, text in zip(texts, _generated(lm, [request.instance for request in texts]), strict=True):
            request.instance.resps.append(text)
    return [
        [_measured(lm, request, text) for text in request.instance.resps]
        for request in requests
        if request.is_generation
    ]


def check_finite(value: float, instance: Instance) -> None:
    """Reject a log-likelihood that is not finite.

    Raises:
        ScoringError: it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise ScoringError(f"{item_name(instance)}: log-likelihood is {value}")


def item_name(instance: Instance) -> str:
    """Return the name of an instance's item for messages."""
    return f"task '{instance.task_name}', item {instance.doc_id}"


def _measured(lm: LiveLM, request: Request, text: str) -> Generated:
    """Tokenize an answer again, as HFLM returns no tokens; an answer that fills the limit counts as cut off."""
    length = len(lm.tokenizer.encode(text, add_special_tokens=False))
    return Generated(text, length, truncated=length >= lm.most_new_tokens(request.arguments[1]))


def _rolling(lm: LiveLM, documents: Sequence[list[int]]) -> list[float]:
    """Return the log-likelihood of each document in nat, summed over windows of the model's context length."""
    windows = [lm.windows(tokens) for tokens in documents]
    scored = iter(lm.score_pairs([window for found in windows for window in found], share_logits=False))
    return [sum(next(scored)[0] for _ in found) for found in windows]


def _generated(lm: LiveLM, instances: Sequence[Instance]) -> list[str]:
    try:
        return lm.generate(instances)
    except NonFiniteLogitsError:
        for instance in instances:  # one by one, to name the item; usually the first fails
            try:
                lm.generate([instance])
            except NonFiniteLogitsError:
                raise ScoringError(f"{item_name(instance)}: the model's logits are not finite") from None
        raise ScoringError(f"{item_name(instances[0])} or a later one: the model's logits are not finite") from None
