"""Kernels that look for magnitudes: the place of the nth element of one magnitude, and the elements in a range."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import triton.language as tl

from .load_store import kernel, load, magnitude, variance


@kernel
def _magnitudes(
    addresses, offsets, inside, CODES: tl.constexpr, COUNT: tl.constexpr, ALIGNED: tl.constexpr, TAIL: tl.constexpr
):
    # Of what `selection.Inputs` says, whose addresses these are.
    own = load(tl.load(addresses), offsets, inside, CODES, 0, ALIGNED, TAIL)
    deltas = ()
    for k in tl.static_range(COUNT):
        deltas = deltas + (load(tl.load(addresses + 1 + k), offsets, inside, CODES, k + 1, ALIGNED, TAIL) - own,)
    return magnitude(deltas[0] if COUNT == 1 else variance(deltas, COUNT))


@kernel
def find_places(queries, CODES: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    # One program per row of `queries` (Q, 6 + COUNT) int64: the elements [start, stop) to look at, a magnitude, n, the
    # address of an int64 that takes the index after the nth such element; addresses of the base and COUNT sources.
    row = queries + (6 + COUNT) * tl.program_id(0)
    start, stop = tl.load(row), tl.load(row + 1)
    wanted, nth = tl.load(row + 2).to(tl.int32), tl.load(row + 3).to(tl.int32)
    place, seen = start, nth * 0
    lanes = tl.arange(0, BLOCK)
    for block in range(tl.cdiv(stop - start, BLOCK)):
        offsets = start + block * BLOCK + lanes
        inside = offsets < stop
        equal = (inside & (_magnitudes(row + 5, offsets, inside, CODES, COUNT, False, True) == wanted)).to(tl.int32)
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
    bits = _magnitudes(query + 4, offsets, inside, CODES, COUNT, ALIGNED, TAIL)
    hit = inside & (bits >= tl.load(query + 1).to(tl.int32)) & (bits <= tl.load(query + 2).to(tl.int32))
    count = tl.sum(hit.to(tl.int32), 0)
    if count > 0:
        place = tl.atomic_add(found, count) + tl.cumsum(hit.to(tl.int32), 0) - 1
        key = ((0x7FFFFFFF - bits).to(tl.int64) << 32) | offsets
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
    # `query` (5 + COUNT,) int64: size, lowest and highest magnitude, how many there are; addresses of the base and
    # COUNT sources.
    # `keys` int64 takes, in any order, (0x7FFFFFFF - magnitude) << 32 | index of each; `found` int32 counts from 0.
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
