"""Builds the TaskEntry that the search sees from a configured and loaded task."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lm_eval.api.task import ConfigurableTask

from mergesmith.errors import UserError

from ..config import TaskConfig
from ..records import Leaf, TaskEntry
from .catalog import LoadedEntry
from .metrics import Metric
from .requests import TaskItems

_LOCAL_FORMATS = frozenset({"json", "csv", "parquet", "text", "arrow", "pandas", "xml", "webdataset"})


@dataclass(frozen=True)
class OpenedEntry:
    """One configured lm-eval entry after loading and before the split."""

    config: TaskConfig
    loaded: LoadedEntry
    metrics: Mapping[str, Metric]
    items: Mapping[str, TaskItems]


def task_entry(entry: OpenedEntry) -> TaskEntry:
    """Return the entry of a task, group or tag; the tasks of a group may have different metrics and filters."""
    metrics = entry.metrics.values()
    sizes = {name: len(items.docs) for name, items in entry.items.items()}
    if not _weights_by_size(entry.loaded, {chosen.name for chosen in metrics}):
        sizes = dict.fromkeys(sizes, 1)
    total = sum(sizes.values())
    return TaskEntry(
        name=entry.config.name,
        weight=entry.config.weight,
        metric=", ".join(dict.fromkeys(chosen.name for chosen in metrics)),
        filter=", ".join(dict.fromkeys(chosen.filter for chosen in metrics)),
        sign=1 if direction(entry) else -1,
        bounded=all(chosen.bounded for chosen in metrics),
        max_drop=entry.config.max_drop,
        leaves=tuple(Leaf(name, sizes[name] / total, chosen.aggregation) for name, chosen in entry.metrics.items()),
    )


def objective_entry(config: TaskConfig) -> TaskEntry:
    """Return the entry of a Python objective; higher is better unless the configuration says otherwise."""
    return TaskEntry(
        name=config.name,
        weight=config.weight,
        metric="value",
        filter="none",
        sign=-1 if config.higher_is_better is False else 1,
        bounded=False,
        max_drop=config.max_drop,
        leaves=(Leaf(config.name, 1.0, "mean"),),
        python=True,
    )


def _weights_by_size(loaded: LoadedEntry, metrics: Collection[str]) -> bool:
    aggregates = [] if loaded.group is None else loaded.group.aggregate_metric_list or []
    return any(aggregate.weight_by_size for aggregate in aggregates if aggregate.metric in metrics)


def check_max_drop(entry: OpenedEntry) -> None:
    """Check that the limit of an entry can be exceeded.

    Raises:
        UserError: `max_drop` is as large as the range of the metric.
    """
    limit = entry.config.max_drop
    if limit is not None and limit >= 1 and all(chosen.bounded for chosen in entry.metrics.values()):
        meant = f"; if it is meant in percent, write max_drop: {limit / 100:g}" if limit < 100 else ""
        raise UserError(f"max_drop: {limit:g} can never be exceeded, as the metric lies between 0 and 1{meant}")


def direction(entry: OpenedEntry) -> bool:
    """Return whether higher is better, by the configuration or by all of the entry's tasks.

    Raises:
        UserError: the configuration gives no direction and the tasks give none, or different ones.
    """
    if entry.config.higher_is_better is not None:
        return entry.config.higher_is_better
    directions = {chosen.higher_is_better for chosen in entry.metrics.values()}
    if None in directions:
        nameless = next(
            f"'{chosen.name}' of {name}" for name, chosen in entry.metrics.items() if chosen.higher_is_better is None
        )
        raise UserError(f"set higher_is_better: the task gives no direction for metric {nameless}")
    if len(directions) != 1:
        examples = {chosen.higher_is_better: f"{name} ({chosen.name})" for name, chosen in entry.metrics.items()}
        raise UserError(
            f"higher is better for {examples[True]} and lower is better for {examples[False]}, so they have no mean; "
            "list the group's tasks singly, choose a metric that all have, or set higher_is_better"
        )
    return bool(directions.pop())


def different_ranges(entry: OpenedEntry) -> Iterator[str]:
    """Yield a warning if a group averages metrics of which only some lie in [0, 1]."""
    bounded = {chosen.bounded: chosen.name for chosen in entry.metrics.values()}
    if len(bounded) == 2:
        yield (
            f"{entry.config.name}: its value is the mean of metrics with different ranges, such as {bounded[True]} in "
            f"[0, 1] and {bounded[False]}; list its tasks singly to scale and weight them"
        )


def public_test_warning(task: ConfigurableTask) -> str | None:
    """Return a warning for a task that is scored on the test split of a dataset from the Hugging Face Hub."""
    path, split_name = task.config.dataset_path, task.config.test_split
    if task.config.custom_dataset is not None or path is None or path in _LOCAL_FORMATS or Path(path).exists():
        return None
    if split_name is None or "test" not in split_name.lower():
        return None
    return (
        f"{task.task_name}: it is scored on split '{split_name}' of the public dataset '{path}'; tuning a merge on a "
        f"benchmark's test set makes its score there meaningless as a comparison with other models"
    )
