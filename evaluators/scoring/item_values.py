"""From answers to per-item values: the task's own filters and metrics, checked; and what the answers were like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..inference.generate import Generated
from ..records import ItemScores, ScoringError
from ..tasks.metrics import Metric, apply_filter, as_numbers, metric_value
from ..tasks.suite_content import LeafTask
from .answer_facts import answer_facts
from .hflm_scorer import item_name


def leaf_scores(leaf: LeafTask, ids: Sequence[int], texts: Mapping[int, Sequence[Generated]]) -> ItemScores:
    """Values of items whose answers stand in their instances; `texts` are the generated ones, by id of the instance.

    Raises:
        ScoringError: the filter or the metric fails on an answer, or gives something else than finite numbers.
    """
    try:
        apply_filter(leaf.task, leaf.metric.filter, [r.instance for doc in ids for r in leaf.requests[doc]])
    except Exception as error:  # the task's own code, as the metric
        name = f"task '{leaf.task.task_name}': its filter '{leaf.metric.filter}'"
        raise ScoringError(f"{name} failed: {type(error).__name__}: {error}") from error
    rows = []
    for doc in ids:
        instances = [request.instance for request in leaf.requests[doc]]
        answers = [instance.filtered_resps[leaf.metric.filter] for instance in instances]
        try:
            value = metric_value(leaf.task.process_results(instances[0].doc, answers), leaf.metric.name)
        except Exception as error:  # the task's own code, on whatever the model answered
            raise ScoringError(
                f"{item_name(instances[0])}: the metric failed: {type(error).__name__}: {error}"
            ) from error
        rows.append(checked_value(value, leaf.metric, item_name(instances[0])))
    return item_scores(ids, rows, leaf.task.task_name, answer_facts(leaf, ids, texts))


def checked_value(value: Any, metric: Metric, place: str) -> float | tuple[float, ...]:
    """A per-item value as numbers.

    Raises:
        ScoringError: not numeric, not finite (NaN passes where the aggregation skips it), or outside [0, 1] for a
            metric that is known to lie there.
    """
    found = as_numbers(value)
    if found is None:
        raise ScoringError(f"{place}: metric '{metric.name}' gave {value!r}, which is no number")
    row = found if isinstance(found, tuple) else (found,)
    if metric.aggregation != "nanmean" and not all(math.isfinite(number) for number in row):
        raise ScoringError(f"{place}: metric '{metric.name}' is {value}")
    if metric.bounded and not 0.0 <= row[0] <= 1.0:
        raise ScoringError(f"{place}: metric '{metric.name}' must lie in [0, 1], but is {value}")
    return found


def item_scores(
    ids: Sequence[int], rows: Sequence[float | tuple[float, ...]], leaf: str, facts: np.ndarray | None = None
) -> ItemScores:
    """Values of a leaf's items as one array, (n,) or (n, k).

    Raises:
        ScoringError: items with different numbers of values.
    """
    widths = {len(row) if isinstance(row, tuple) else 0 for row in rows}
    if len(widths) > 1:
        raise ScoringError(f"{leaf}: its items have different numbers of values: {sorted(widths)}")
    return ItemScores(ids=tuple(str(doc) for doc in ids), values=np.array(rows, dtype=np.float64), facts=facts)
