"""lm-eval's own index, read once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_tasks import load

from mergesmith.errors import UserError
from mergesmith.evaluators.tasks import catalog


@pytest.mark.no_cover  # reading 14,000 files takes half as long again under coverage's tracer
def test_unknown_built_in_task_suggests_the_nearest_name_and_indexes_once(root: Path) -> None:
    for name, near in (("gsm8kk", "gsm8k"), ("hellaswg", "hellaswag")):
        with pytest.raises(UserError, match=f"Did you mean '{near}'"):
            load(root, [name])
    assert catalog.built_in_tasks.cache_info().misses == 1
