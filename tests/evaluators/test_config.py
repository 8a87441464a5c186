"""Task, chat and split settings: defaults, and values that are rejected."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mergesmith.evaluators import ChatConfig, SplitConfig, TaskConfig
from mergesmith.evaluators.config import first_documents


def test_a_bare_name_is_a_task() -> None:
    assert TaskConfig.model_validate("gsm8k") == TaskConfig(name="gsm8k", weight=1.0)
    assert ChatConfig() == ChatConfig(apply_template=False, system=None, fewshot_as_multiturn=True)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"name": "a", "wieght": 1}, "Extra inputs"),
        ({"name": "a", "weight": -1}, "is written weight: 1 with higher_is_better: false"),
        ({"name": "a", "weight": 0}, "no effect without max_drop"),
        ({"name": "a", "limit": 1.5}, "a number of documents such as 200, or a share of them below 1"),
        ({"name": "a", "limit": "ten"}, "a number of documents such as 200, or a share of them below 1"),
        ({"name": "a", "metric": "acc,none", "filter": "first"}, "names another filter than filter: first"),
        ({"name": "a", "max_drop": -0.1}, "greater than or equal to 0"),
        ({"name": "a", "limit": 0}, "greater than 0"),
        ({"name": ""}, "at least 1 character"),
        ({"name": "a", "python": "x:y", "metric": "acc", "limit": 3}, "a Python objective has no metric, limit"),
    ],
)
def test_task_settings_that_are_rejected(given: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TaskConfig.model_validate(given)


def test_metric_and_filter_as_in_the_results_of_lm_eval() -> None:
    for given in ({"metric": "exact_match,strict-match"}, {"metric": "exact_match, strict-match", "filter": None}):
        task = TaskConfig.model_validate({"name": "gsm8k", **given})
        assert (task.metric, task.filter) == ("exact_match", "strict-match")


@pytest.mark.parametrize(
    ("limit", "count"), [(None, 60), (7, 7), (7.0, 7), (1, 1), (0.1, 6), (0.11, 7), (1e-9, 1), (100, 60)]
)
def test_limits_leave_as_many_documents_as_in_lm_eval(limit: float | None, count: int) -> None:
    assert first_documents(TaskConfig(name="a", limit=limit).limit, 60) == count


def test_shares_sum_to_one() -> None:
    assert SplitConfig(search=0.7, select=0.1, report=0.2).select == 0.1
    with pytest.raises(ValidationError, match=r"must sum to 1, but 0.6 \+ 0.2 \+ 0.3 is 1.1"):
        SplitConfig(report=0.3)
    with pytest.raises(ValidationError, match="greater than 0"):
        SplitConfig(search=0.8, select=0.2, report=0.0)
