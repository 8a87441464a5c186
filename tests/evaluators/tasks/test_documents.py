"""The split of documents into parts by their digests."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mergesmith.errors import Faults, UserError
from mergesmith.evaluators import SplitConfig
from mergesmith.evaluators.tasks.documents import check_counts, digest, part_of


def test_parts_follow_the_shares_and_never_change() -> None:
    digests = [digest({"question": i}) for i in range(20_000)]
    split = SplitConfig()
    parts = [part_of(key, split) for key in digests]
    for part in ("search", "select", "report"):
        share = getattr(split, part)
        assert parts.count(part) / len(parts) == pytest.approx(share, abs=4 * math.sqrt(share / len(parts)))
    # A change here would move every user's items.
    written_down = "51ea4a015bf57b32336168fc743a8366704ee3f1c1b5668a57068719f24a4d8f"
    assert digest({"b": 1, "a": ["x", None]}) == digest({"a": ["x", None], "b": 1}) == written_down
    assert part_of("0" * 64, split) == "search"
    assert part_of("f" * 64, split) == "report"


def test_small_parts_are_faults_and_small_reports_warnings() -> None:
    faults = Faults("tasks")
    counts: Any = {"a": {"search": 30, "select": 9, "report": 4}, "b": {"search": 99, "select": 20, "report": 49}}
    warnings = check_counts(counts, SplitConfig(), faults)
    assert len(faults.messages) == 2
    assert [warning.split(":")[0] for warning in warnings] == ["b"]
    with pytest.raises(UserError, match=r"'report' \(share 0.2\) holds 4 of 43 items"):
        faults.raise_if_any()
