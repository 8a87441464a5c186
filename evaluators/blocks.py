"""Cuts the items of a part into fixed, shuffled, stratified blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from .config import Part
from .records import Block


def make_blocks(
    part: Part, items: Mapping[str, Sequence[int]], objectives: Sequence[str], *, seed: int, block_items: int
) -> tuple[Block, ...]:
    """Blocks of about `block_items` items, each with about the same proportion of every leaf.

    Each leaf's documents are shuffled and spread evenly over [0, 1); reading all leaves along that line and cutting it
    into equal pieces gives the blocks. The shuffle sorts by a hash of (seed, part, leaf, document), so it depends on no
    random generator, and adding a task moves no other task's documents against each other.

    `items` is leaf name -> document ids in this part; `objectives`, the names of Python objectives, go into the last
    block, or the only one.
    """
    line = sorted(
        ((rank + 0.5) / len(ids), order, doc)
        for order, (leaf, ids) in enumerate(items.items())
        for rank, doc in enumerate(sorted(ids, key=lambda doc: _shuffle_key(seed, part, leaf, doc)))
    )
    names = tuple(items)
    count = max(1, round(len(line) / block_items))
    blocks = []
    for index in range(count):
        piece = line[index * len(line) // count : (index + 1) * len(line) // count]
        chosen = {name: tuple(sorted(doc for _, at, doc in piece if at == order)) for order, name in enumerate(names)}
        held: dict[str, tuple[int, ...]] = {name: ids for name, ids in chosen.items() if ids}
        if index == count - 1:
            held |= dict.fromkeys(objectives, ())
        blocks.append(Block(part=part, index=index, items=held))
    return tuple(blocks)


def _shuffle_key(seed: int, part: str, leaf: str, doc: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{part}\0{leaf}\0{doc}".encode()).digest()
