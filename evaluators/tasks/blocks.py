"""Splits the items of a part into fixed, shuffled, stratified blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ..config import Part
from ..records import Block

LARGEST_BLOCK = 256
SMALLEST_FIRST_BLOCK = 8
FIRST_SHARE = 8  # the first block holds at most the eighth part of all items, so that few items have several looks
GROWTH = 0.5  # a block's size relative to all items before it


def block_ends(items: int, first: int | None) -> tuple[int, ...]:
    """Return after how many items each block ends.

    Small blocks use the hardware poorly; large ones detect a poor candidate late. So the first block holds `first`
    items (of less than 8 * `first` items an eighth, but at least 8), and each later one half as many as all before it,
    at most 256. If candidates are not compared between blocks (None), all hold 256. A remainder of less than half a
    block is added to the last one.
    """
    if first is not None:
        first = min(first, max(SMALLEST_FIRST_BLOCK, items // FIRST_SHARE))
    ends: list[int] = []
    done = 0
    while done < items:
        size = LARGEST_BLOCK
        if first is not None:
            size = max(1, min(size, int(GROWTH * done))) if done else first
        done = items if items - done < 1.5 * size else done + size
        ends.append(done)
    return tuple(ends) or (0,)


def search_blocks(
    items: Mapping[str, Sequence[int]],
    objectives: Sequence[str],
    raced: Collection[str],
    *,
    seed: int,
    block_items: int,
) -> tuple[Block, ...]:
    """Return the blocks of the search part: first those of the raced leaves, then those of all others.

    So a candidate that is dropped costs nothing on tasks that cannot show early that it is worse. Without a raced leaf,
    or if all are raced, this is `make_blocks`, whose arguments have the same names.

    Args:
        items: leaf name -> document ids.
        objectives: names of Python objectives.
        raced: the leaves of entries that are raced.
        seed: changes the order of the documents.
        block_items: items in the first block.
    """
    first = {leaf: ids for leaf, ids in items.items() if leaf in raced}
    rest = {leaf: ids for leaf, ids in items.items() if leaf not in raced}
    if not first or not (rest or objectives):
        return make_blocks("search", items, objectives, seed=seed, block_items=block_items)
    blocks = make_blocks("search", first, (), seed=seed, block_items=block_items)
    others = make_blocks("search", rest, objectives, seed=seed, block_items=None)
    return (*blocks, *(replace(block, index=len(blocks) + block.index) for block in others))


def make_blocks(
    part: Part, items: Mapping[str, Sequence[int]], objectives: Sequence[str], *, seed: int, block_items: int | None
) -> tuple[Block, ...]:
    """Return blocks with the sizes of `block_ends`, each with about the same proportion of every leaf.

    Each leaf's documents are shuffled and spread evenly over [0, 1), with a random offset; all documents sorted by that
    position are then cut into blocks. Up to every cut a leaf has its proportion to within one item, and exactly in
    expectation over offsets. Shuffle and offset are hashes of (seed, part, leaf, document), so they depend on no random
    generator, and adding a task leaves the order of other tasks' documents unchanged.

    Args:
        part: the part.
        items: leaf name -> document ids in this part.
        objectives: names of Python objectives, which are added to the last block.
        seed: changes the order of the documents.
        block_items: items in the first block; None for blocks of equal size.
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
    """Return a leaf's offset in [0, 1)."""
    return (int.from_bytes(_hash(seed, part, leaf, "start")[:8], "big") >> 11) / 2**53


def _hash(seed: int, part: str, leaf: str, what: object) -> bytes:
    return hashlib.sha256(f"{seed}\0{part}\0{leaf}\0{what}".encode()).digest()
