"""The metric that a task is scored with: its filter, direction and aggregation, and per-item values."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.registry import AGGREGATION_REGISTRY
from lm_eval.api.task import ConfigurableTask

from mergesmith.errors import UserError, unknown

_PREFERRED = ("acc", "exact_match")
# Per-item values of these lie in [0, 1]. A value outside is a scoring error, which detects misnamed metrics.
_BOUNDED = frozenset(
    {
        "acc",
        "acc_norm",
        "acc_bytes",
        "acc_mutual_info",
        "exact_match",
        "em",
        "f1",
        "exact",
        "contains",
        "pass_at_1",
        "pass_at_k",
    }
    | {"prompt_level_strict_acc", "prompt_level_loose_acc", "mc1", "mc2"}
)


@dataclass(frozen=True)
class Metric:
    """The metric that one lm-eval task is scored with; `bounded`: its per-item values lie in [0, 1]."""

    name: str
    filter: str
    aggregation: str
    higher_is_better: bool | None
    bounded: bool


def resolve_metric(task: ConfigurableTask, metric: str | None, filter_name: str | None) -> Metric:
    """Return the configured metric and filter of a task, or its defaults.

    Raises:
        UserError: an unknown metric or filter, or an aggregation that other processes cannot import.
    """
    aggregations = task.aggregation()
    filters = filter_names(task)
    if metric is None:
        metric = next((name for name in _PREFERRED if name in aggregations), next(iter(aggregations), ""))
    if metric not in aggregations:
        raise UserError(unknown(f"metric of {task.task_name}", metric, aggregations))
    if filter_name is not None and filter_name not in filters:
        raise UserError(unknown(f"filter of {task.task_name}", filter_name, filters))
    aggregation = _reference(aggregations[metric], metric, task.task_name)
    return Metric(
        name=metric,
        filter=filter_name or filters[0],
        aggregation=aggregation,
        higher_is_better=task.higher_is_better().get(metric),
        bounded=aggregation == "mean" and metric in _BOUNDED,
    )


def metric_like(task: ConfigurableTask, first: Metric) -> Metric:
    """Return the metric of a later task of a group: that of its first task, or the task's default if it lacks that.

    Raises:
        UserError: see `resolve_metric`.
    """
    if first.name not in task.aggregation():
        return resolve_metric(task, None, None)
    return resolve_metric(task, first.name, first.filter if first.filter in filter_names(task) else None)


def filter_names(task: ConfigurableTask) -> list[str]:
    """Return the names of a task's filters, the default one first."""
    return [ensemble.name for ensemble in task._filters]


def apply_filter(task: ConfigurableTask, filter_name: str, instances: list[Instance]) -> None:
    """Apply one of the task's filters to these instances; fills their `filtered_resps`."""
    next(ensemble for ensemble in task._filters if ensemble.name == filter_name).apply(instances)


def filter_fallbacks(task: ConfigurableTask, filter_name: str) -> list[Any]:
    """Return the fallback values of a filter's steps, which replace answers from which nothing can be extracted."""
    ensemble = next(ensemble for ensemble in task._filters if ensemble.name == filter_name)
    fallbacks = [getattr(make(), "fallback", None) for make in ensemble.filters]
    return [fallback for fallback in fallbacks if fallback is not None]


def reported_name(task: ConfigurableTask, result: Mapping[str, Any], metric: str) -> str | None:
    """Return the name under which the result of `process_results` has a metric; None if it leaves the metric out.

    lm-eval's means are over the documents whose results have the metric. A metric that reports under another name, as
    pass@k does, is recognized if the result has a single name that is no metric of the task.
    """
    if metric in result:
        return metric
    only = next(iter(result)) if len(result) == 1 else None
    return None if only in task.aggregation() else only


def as_numbers(value: Any) -> float | tuple[float, ...] | None:
    """Return a per-item value as one float or a tuple of floats; None if it is neither."""
    if isinstance(value, (numbers.Real, np.number, np.bool_)):
        return float(value)
    if isinstance(value, tuple) and value and all(isinstance(v, (numbers.Real, np.number, np.bool_)) for v in value):
        return tuple(float(v) for v in value)
    return None


def check_numeric(task: ConfigurableTask, chosen: Metric, instances: list[Instance]) -> None:
    """Reject a metric whose per-item value is not numeric, by processing one document with made-up answers.

    A task that fails on made-up answers is accepted, since only a model's answers can show whether it is numeric.

    Raises:
        UserError: the metric keeps texts or lists per item, as corpus-level metrics such as BLEU do.
    """
    stand_in = {"loglikelihood": (-1.0, False), "loglikelihood_rolling": -1.0, "generate_until": "1"}
    try:
        for instance in instances:
            instance.resps = [stand_in[instance.request_type]] * (instance.repeats or 1)
        apply_filter(task, chosen.filter, instances)
        answers = [instance.filtered_resps[chosen.filter] for instance in instances]
        result = task.process_results(instances[0].doc, answers)
        value = result[reported_name(task, result, chosen.name)]
    except Exception:
        return
    finally:
        for instance in instances:
            instance.resps, instance.filtered_resps = [], {}
    if as_numbers(value) is None:
        raise UserError(
            f"metric '{chosen.name}' of {task.task_name} has no numeric value per item (it keeps a "
            f"{type(value).__name__} and computes one number for the whole corpus); candidates are compared item by "
            f"item, so choose another metric"
        )


def _reference(function: Callable[..., Any], metric: str, task_name: str) -> str:
    for name, registered in AGGREGATION_REGISTRY.items():
        if registered is function:
            return name
    if isinstance(function, FunctionType) and function.__qualname__.isidentifier():
        return f"{Path(inspect.getfile(function)).resolve()}:{function.__name__}"
    raise UserError(
        f"the aggregation of metric '{metric}' of {task_name} is not a plain function of a module, so worker processes "
        f"cannot find it; choose another metric"
    )
