"""Kernels that finish a pending cut: find the nth index among equal magnitudes, or collect the members of a group."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import triton.language as tl

from ..load_store import kernel
from .values import magnitudes

LARGEST, INDEX_MASK = 0x7FFFFFFF, 0xFFFFFFFF  # see `collect`
_LARGEST = tl.constexpr(LARGEST)


@kernel
def find_indices(queries, CODES: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """Find the nth element of one magnitude, one program per row of `queries` (Q, 6 + COUNT) int64.

    A row has the elements [start, stop) to look at, the magnitude bits, n (from 1), the address of an int64 that
    receives the index after the nth such element, and the addresses of the base and COUNT sources.
    """
    row = queries + (6 + COUNT) * tl.program_id(0)
    start, stop = tl.load(row), tl.load(row + 1)
    wanted, nth = tl.load(row + 2).to(tl.int32), tl.load(row + 3).to(tl.int32)
    place, seen = start, nth * 0
    lanes = tl.arange(0, BLOCK)
    for block in range(tl.cdiv(stop - start, BLOCK)):
        offsets = start + block * BLOCK + lanes
        inside = offsets < stop
        equal = (inside & (magnitudes(row + 5, offsets, inside, CODES, COUNT, False, True) == wanted)).to(tl.int32)
        # The element that brings the count to n; no block has one unless the count passes n in it.
        hit = (equal > 0) & (seen + tl.cumsum(equal, 0) == nth)
        place = tl.maximum(place, tl.max(tl.where(hit, offsets + 1, start), 0))
        seen += tl.sum(equal, 0)
    tl.store(tl.load(row + 4).to(tl.pointer_type(tl.int64)), place)


@kernel
def _collected(
    query,
    found,
    keys,
    offsets,
    inside,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    ALIGNED: tl.constexpr,
    TAIL: tl.constexpr,
):
    bits = magnitudes(query + 4, offsets, inside, CODES, COUNT, ALIGNED, TAIL)
    hit = inside & (bits >= tl.load(query + 1).to(tl.int32)) & (bits <= tl.load(query + 2).to(tl.int32))
    count = tl.sum(hit.to(tl.int32), 0)
    if count > 0:
        # One atomic addition reserves the places of the whole block.
        place = tl.atomic_add(found, count) + tl.cumsum(hit.to(tl.int32), 0) - 1
        key = ((-bits + _LARGEST).to(tl.int64) << 32) | offsets
        tl.store(keys + place, key, mask=hit & (place < tl.load(query + 3)))


@kernel
def collect(
    query,
    found,
    keys,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    ALIGNED: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Collect the elements with magnitude bits in a range.

    `query` (5 + COUNT,) int64: size, lowest and highest bits, number of members; addresses of the base and COUNT
    sources. `keys` int64 receives (LARGEST - bits) << 32 | index of each, in any order: ascending keys are descending
    magnitudes, and among equals ascending indices. `found` int32 counts them from 0.
    """
    start = tl.program_id(0).to(tl.int64) * CHUNK
    stop = tl.minimum(start + CHUNK, tl.load(query))
    blocks = (stop - start) // BLOCK
    lanes = tl.arange(0, BLOCK)
    for block in range(blocks):
        offsets = start + block * BLOCK + lanes
        _collected(query, found, keys, offsets, offsets < stop, CODES, COUNT, ALIGNED, False)
    if start + blocks * BLOCK < stop:
        offsets = start + blocks * BLOCK + lanes
        _collected(query, found, keys, offsets, offsets < stop, CODES, COUNT, ALIGNED, True)
