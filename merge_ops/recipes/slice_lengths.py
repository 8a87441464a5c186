"""Checks the number of layers that the slices of a recipe take. It may be 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .blocks import Slice

Report = Callable[[str, str], None]  # place and message


def check_lengths(slices: Sequence[Slice], prefix: str, fault: Report, warn: Report) -> None:
    """Report slices that have no effect, and slices that have no layers together.

    A first slice of no layers gives only the embeddings, and a last one only the final norm and the head, as in
    mergekit. `prefix` is the module's key path with a dot.
    """
    ranges = [[source.layer_range for source in part.sources if source.layer_range] for part in slices]
    empty = [bool(each) and all(start == stop for start, stop in each) for each in ranges]
    if slices and all(empty):
        fault(f"{prefix}slices", "take no layers; the merged model needs at least one")
        return
    for i in range(1, len(slices) - 1):
        if empty[i]:
            warn(
                f"{prefix}slices[{i}]",
                "takes no layers and has no effect; only a first slice without layers (for the embeddings) and a last "
                "one (for the final norm and head) have one",
            )
