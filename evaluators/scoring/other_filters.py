"""Scores the same answers by the task's other filters, to show whether a low score comes from the filter alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..tasks.catalog import executes_code
from ..tasks.metrics import apply_filter, as_numbers, filter_names, reported_name
from ..tasks.suite_content import LeafTask


def scores_by_other_filters(leaf: LeafTask, ids: Sequence[int]) -> dict[str, np.ndarray]:
    """Return filter -> the values of the items, (n,), from the answers stored in their instances; NaN for none.

    A filter or metric that fails on an answer is left out. Only tasks with generated answers and a mean over items are
    considered, and none that executes code, as that would run the code again.
    """
    config = leaf.task.config
    generated = any(request.is_generation for doc in ids for request in leaf.requests[doc])
    code = executes_code({"metric_list": config.metric_list, "unsafe_code": getattr(config, "unsafe_code", False)})
    if not generated or code or leaf.metric.aggregation != "mean":
        return {}
    found = {}
    for name in filter_names(leaf.task):
        if name != leaf.metric.filter and (values := _values(leaf, ids, name)) is not None:
            found[name] = values
    return found


def _values(leaf: LeafTask, ids: Sequence[int], filter_name: str) -> np.ndarray | None:
    values = []
    try:
        apply_filter(leaf.task, filter_name, [r.instance for doc in ids for r in leaf.requests[doc]])
        for doc in ids:
            instances = [request.instance for request in leaf.requests[doc]]
            answers = [instance.filtered_resps[filter_name] for instance in instances]
            result = leaf.task.process_results(instances[0].doc, answers)
            name = reported_name(leaf.task, result, leaf.metric.name)
            value = math.nan if name is None else as_numbers(result[name])
            if not isinstance(value, float) or not (name is None or math.isfinite(value)):
                return None
            values.append(value)
    except Exception:  # raised by the task's code, for a filter that the run does not use
        return None
    return np.array(values, dtype=np.float64)
