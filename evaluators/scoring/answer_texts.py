"""The answers of a candidate as text, to show beside the expected ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..inference.generate import Generated
from ..tasks.requests import Request
from ..tasks.suite_content import LeafTask

MAX_CHARACTERS = 2000  # of an answer; the rest is cut off


def answer_texts(leaf: LeafTask, ids: Sequence[int], texts: Mapping[int, Sequence[Generated]]) -> tuple[str, ...]:
    """Return the answer to each item: the generated text, or the likeliest choice; "" for a rolling log-likelihood.

    `texts` are the generated answers by id of the instance. The likeliest choice is the one by the metric: for
    "acc_norm", log-likelihoods are divided by the length of the choice.
    """
    return tuple(_answer(leaf.requests[doc], texts, leaf.metric.name)[:MAX_CHARACTERS] for doc in ids)


def _answer(requests: Sequence[Request], texts: Mapping[int, Sequence[Generated]], metric: str) -> str:
    if not requests or requests[0].tokens is not None:
        return ""
    if requests[0].is_generation:
        generated = [answer.text for request in requests for answer in texts.get(id(request.instance), ())]
        return generated[0] if generated else _first(requests[0])
    choices = [(_likelihood(request, metric), str(request.arguments[1])) for request in requests]
    return max(choices, key=lambda choice: choice[0])[1].strip()


def _likelihood(request: Request, metric: str) -> float:
    value = float(request.instance.resps[0][0])
    return value / max(1, len(str(request.arguments[1]).strip())) if metric == "acc_norm" else value


def _first(request: Request) -> str:
    """Return the first answer of a request that lm-eval's HFLM generated."""
    response = request.instance.resps[0] if request.instance.resps else ""
    return str(response[0] if isinstance(response, (list, tuple)) and response else response)
