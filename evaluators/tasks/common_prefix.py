"""The tokens that all prompts of a task begin with."""

from __future__ import annotations

from collections.abc import Sequence

SHORTEST_PREFIX, LEAST_SHARE = 8, 0.25


def common_prefix(sequences: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all of several prompts begin with, leaving each at least one; () where they are few."""
    if len(sequences) < 2:
        return ()
    first, last = min(map(tuple, sequences)), max(map(tuple, sequences))  # the two that differ earliest
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    shortest = min(len(sequence) for sequence in sequences)
    length = min(shared, shortest - 1)
    return first[:length] if length >= max(SHORTEST_PREFIX, LEAST_SHARE * shortest) else ()
