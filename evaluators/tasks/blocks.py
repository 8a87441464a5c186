"""Cuts the items of a part into fixed, shuffled, stratified blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ..config import Part
from ..records import Block

LARGEST_BLOCK = 256
GROWTH = 0.5  # of what was scored before


def block_ends(items: int, first: int | None) -> tuple[int, ...]:
    """After how many items each block ends.

    Small blocks waste the machine, large ones find a hopeless candidate out late. So the first block holds `first`
    items and each later one half of all before it, 256 at most; where nobody looks between blocks (None), all hold 256.
    What is left after the last whole block goes with it when it is less than half of one.
    """
    ends: list[int] = []
    done = 0
    while done < items:
        size = LARGEST_BLOCK
        if first is not None:
            size = max(1, min(size, int(GROWTH * done))) if done else first
        done = items if items - done < 1.5 * size else done + size
        ends.append(done)
    return tuple(ends) or (0,)


def make_blocks(
    part: Part, items: Mapping[str, Sequence[int]], objectives: Sequence[str], *, seed: int, block_items: int | None
) -> tuple[Block, ...]:
    """Blocks as `block_ends` has them, the first of `block_items`, each with about the same proportion of every leaf.

    Each leaf's documents are shuffled and spread evenly over [0, 1), from a random start; reading all leaves along that
    line and cutting it gives the blocks. Up to every cut a leaf has its proportion to within one item, and exactly in
    the mean over starts, so that no leaf's first items come too early. Shuffle and start are hashes of (seed, part,
    leaf, document), so they depend on no random generator, and adding a task moves no other task's documents against
    each other.

    `items` is leaf name -> document ids in this part; `objectives`, the names of Python objectives, go into the last
    block, or the only one.
    """
    line = sorted(
        ((rank + _start(seed, part, leaf)) / len(ids), order, doc)
        for order, (leaf, ids) in enumerate(items.items())
        for rank, doc in enumerate(sorted(ids, key=lambda doc: _hash(seed, part, leaf, doc)))
    )
    names = tuple(items)
    ends = block_ends(len(line), block_items)
    blocks = []
    for index, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
        piece = line[start:end]
        chosen = {name: tuple(sorted(doc for _, at, doc in piece if at == order)) for order, name in enumerate(names)}
        held: dict[str, tuple[int, ...]] = {name: ids for name, ids in chosen.items() if ids}
        if index == len(ends) - 1:
            held |= dict.fromkeys(objectives, ())
        blocks.append(Block(part=part, index=index, items=held))
    return tuple(blocks)


def _start(seed: int, part: str, leaf: str) -> float:
    """A leaf's start in [0, 1)."""
    return (int.from_bytes(_hash(seed, part, leaf, "start")[:8], "big") >> 11) / 2**53


def _hash(seed: int, part: str, leaf: str, what: object) -> bytes:
    return hashlib.sha256(f"{seed}\0{part}\0{leaf}\0{what}".encode()).digest()
