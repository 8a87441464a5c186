"""When a worker counts as hung."""

from __future__ import annotations

from mergesmith.optimizer.pools.deadline import INITIAL_TIMEOUT_S, MEDIAN_FACTOR, MIN_TIMEOUT_S, Deadline


def test_each_part_has_its_own_median() -> None:
    deadline = Deadline(None)
    for seconds in (20.0, 30.0, 1000.0):
        assert deadline.seconds("search") == INITIAL_TIMEOUT_S
        deadline.record("search", seconds)
    assert deadline.seconds("search") == MEDIAN_FACTOR * 30
    assert deadline.seconds("report") == INITIAL_TIMEOUT_S  # its items may be many more
    for _ in range(3):
        deadline.record("report", 0.1)
    assert deadline.seconds("report") == MIN_TIMEOUT_S


def test_a_configured_one_holds_from_the_first_candidate() -> None:
    assert Deadline(5.0).seconds("select") == 5.0
