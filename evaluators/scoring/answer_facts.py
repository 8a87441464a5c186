"""Statistics of generated answers: cut off, empty, without an extracted answer, and their length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..inference.generate import Generated
from ..tasks.metrics import filter_fallbacks
from ..tasks.requests import Request
from ..tasks.suite_content import LeafTask


def answer_facts(leaf: LeafTask, ids: Sequence[int], texts: Mapping[int, Sequence[Generated]]) -> np.ndarray | None:
    """Return the columns of `records.FACTS` per item, (n, 4) float64; None if the task generates nothing.

    Filters must have run: an answer counts as not extracted if the filter returned its fallback value.
    """
    if not any(request.is_generation for doc in ids for request in leaf.requests[doc]):
        return None
    lacking = filter_fallbacks(leaf.task, leaf.metric.filter)
    return np.array([_item_facts(leaf.requests[doc], texts, leaf.metric.filter, lacking) for doc in ids])


def _item_facts(
    requests: Sequence[Request], texts: Mapping[int, Sequence[Generated]], filter_name: str, lacking: Sequence[Any]
) -> tuple[float, ...]:
    answers = [answer for request in requests for answer in texts.get(id(request.instance), ())]
    extracted = [_listed(request.instance.filtered_resps[filter_name]) for request in requests]
    flat = [answer for found in extracted for answer in found]
    return (
        _share([answer.truncated for answer in answers]),
        _share([not answer.text.strip() for answer in answers]),
        _share([any(answer == fallback for fallback in lacking) for answer in flat]),
        _share([answer.length for answer in answers]),
    )


def _listed(answers: Any) -> Sequence[Any]:
    return answers if isinstance(answers, (list, tuple)) else [answers]


def _share(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
