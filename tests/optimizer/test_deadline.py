"""When a worker counts as hung."""

from __future__ import annotations

from mergesmith.optimizer.pools.deadline import LEAST, TIMES, UNKNOWN, Deadline


def test_each_part_has_its_own_median() -> None:
    deadline = Deadline(None)
    for seconds in (20.0, 30.0, 1000.0):
        assert deadline.seconds("search") == UNKNOWN
        deadline.took("search", seconds)
    assert deadline.seconds("search") == TIMES * 30
    assert deadline.seconds("report") == UNKNOWN  # its items may be many more
    for _ in range(3):
        deadline.took("report", 0.1)
    assert deadline.seconds("report") == LEAST


def test_a_configured_one_holds_from_the_first_candidate() -> None:
    assert Deadline(5.0).seconds("select") == 5.0
