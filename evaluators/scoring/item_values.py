"""Computes per-item values from answers by a task's filter and metric, and checks them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..inference.generate import Generated
from ..records import ItemScores, ScoringError
from ..tasks.metrics import Metric, apply_filter, as_numbers, reported_name
from ..tasks.suite_content import LeafTask
from .answer_facts import answer_facts
from .hflm_scorer import item_name
from .other_filters import scores_by_other_filters


def leaf_scores(leaf: LeafTask, ids: Sequence[int], texts: Mapping[int, Sequence[Generated]]) -> ItemScores:
    """Return the scores of items from the answers stored in their instances.

    `texts` are the generated answers by id of the instance.

    Raises:
        ScoringError: the filter or the metric fails on an answer, or gives anything but finite numbers.
    """
    try:
        apply_filter(leaf.task, leaf.metric.filter, [r.instance for doc in ids for r in leaf.requests[doc]])
    except Exception as error:  # raised by the task's code
        name = f"task '{leaf.task.task_name}': its filter '{leaf.metric.filter}'"
        raise ScoringError(f"{name} failed: {type(error).__name__}: {error}") from error
    rows = []
    for doc in ids:
        instances = [request.instance for request in leaf.requests[doc]]
        answers = [instance.filtered_resps[leaf.metric.filter] for instance in instances]
        try:
            result = leaf.task.process_results(instances[0].doc, answers)
            rows.append(value_of(result, leaf, item_name(instances[0])))
        except ScoringError:
            raise
        except Exception as error:  # raised by the task's code, given what the model answered
            raise ScoringError(
                f"{item_name(instances[0])}: the metric failed: {type(error).__name__}: {error}"
            ) from error
    found = item_scores(ids, rows, leaf.task.task_name, answer_facts(leaf, ids, texts))
    return replace(found, by_filter=scores_by_other_filters(leaf, ids))


def value_of(result: Mapping[str, Any], leaf: LeafTask, place: str) -> float | tuple[float, ...] | None:
    """Return an item's value from the result of `process_results`; None if that leaves the metric out.

    Raises:
        ScoringError: see `checked_value`.
    """
    name = reported_name(leaf.task, result, leaf.metric.name)
    return None if name is None else checked_value(result[name], leaf.metric, place)


def checked_value(value: Any, metric: Metric, place: str) -> float | tuple[float, ...]:
    """Return a per-item value as a float or a tuple of floats.

    Raises:
        ScoringError: it is not numeric, not finite (NaN is allowed if the aggregation skips it), or outside [0, 1]
            although the metric is bounded.
    """
    numbers = as_numbers(value)
    if numbers is None:
        raise ScoringError(f"{place}: metric '{metric.name}' gave {value!r}, which is not numeric")
    row = numbers if isinstance(numbers, tuple) else (numbers,)
    if metric.aggregation != "nanmean" and not all(math.isfinite(number) for number in row):
        raise ScoringError(f"{place}: metric '{metric.name}' is {value}")
    if metric.bounded and not 0.0 <= row[0] <= 1.0:
        raise ScoringError(f"{place}: metric '{metric.name}' must lie in [0, 1], but is {value}")
    return numbers


def item_scores(
    ids: Sequence[int], rows: Sequence[float | tuple[float, ...] | None], leaf: str, facts: np.ndarray | None = None
) -> ItemScores:
    """Return the values of a leaf's items as one array, (n,) or (n, k), with NaN for None.

    Raises:
        ScoringError: items with different numbers of values.
    """
    widths = {len(row) if isinstance(row, tuple) else 0 for row in rows if row is not None}
    if len(widths) > 1:
        raise ScoringError(f"{leaf}: its items have different numbers of values: {sorted(widths)}")
    width = next(iter(widths), 0)
    missing = (math.nan,) * width if width else math.nan
    values = np.array([missing if row is None else row for row in rows], dtype=np.float64)
    return ItemScores(ids=tuple(str(doc) for doc in ids), values=values, facts=facts)
