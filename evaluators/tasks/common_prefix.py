"""The tokens that all prompts of a task begin with."""

from __future__ import annotations

from collections.abc import Sequence

# Reading a prefix separately is worth a forward pass if it has this many tokens and this share of the shortest prompt.
SHORTEST_PREFIX, LEAST_SHARE = 8, 0.25


def common_prefix(sequences: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the tokens that all prompts begin with, leaving each at least one token; () if they are too few."""
    if len(sequences) < 2:
        return ()
    first, last = min(map(tuple, sequences)), max(map(tuple, sequences))  # the two with the shortest common prefix
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    shortest = min(len(sequence) for sequence in sequences)
    length = min(shared, shortest - 1)
    return first[:length] if length >= max(SHORTEST_PREFIX, LEAST_SHARE * shortest) else ()
