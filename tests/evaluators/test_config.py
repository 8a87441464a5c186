"""Task, chat and split settings: defaults, and values that are rejected."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mergesmith.evaluators import ChatConfig, SplitConfig, TaskConfig


def test_a_bare_name_is_a_task() -> None:
    assert TaskConfig.model_validate("gsm8k") == TaskConfig(name="gsm8k", weight=1.0)
    assert ChatConfig() == ChatConfig(apply_template=False, system=None, fewshot_as_multiturn=True)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"name": "a", "wieght": 1}, "Extra inputs"),
        ({"name": "a", "weight": -1}, "greater than or equal to 0"),
        ({"name": "a", "weight": 0}, "no effect without max_drop"),
        ({"name": "a", "max_drop": -0.1}, "greater than or equal to 0"),
        ({"name": "a", "limit": 0}, "greater than 0"),
        ({"name": ""}, "at least 1 character"),
        ({"name": "a", "python": "x:y", "metric": "acc", "limit": 3}, "a Python objective has no metric, limit"),
    ],
)
def test_task_settings_that_are_rejected(given: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TaskConfig.model_validate(given)


def test_shares_sum_to_one() -> None:
    assert SplitConfig(search=0.7, select=0.1, report=0.2).select == 0.1
    with pytest.raises(ValidationError, match=r"must sum to 1, but 0.6 \+ 0.2 \+ 0.3 is 1.1"):
        SplitConfig(report=0.3)
    with pytest.raises(ValidationError, match="greater than 0"):
        SplitConfig(search=0.8, select=0.2, report=0.0)
