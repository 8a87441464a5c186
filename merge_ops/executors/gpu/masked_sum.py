"""The kernel of masked task-vector sums: mask, rescale, weigh, elect signs, sum, divide, in one pass over memory."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import triton.language as tl

from .load_store import before, from_cut, hash_level, kernel, load, magnitude, store

# What masks go by, and what happens to the sum: each combination has a kernel of its own, without branches.
LARGEST, WINDOW, HASH, BITMAP = 0, 1, 2, 3  # a window has an upper end too
SUM, AVERAGE, ELECT, ELECT_AND_DIVIDE = 0, 1, 2, 3
NUMBERS = 8  # whole numbers per source
_WINDOW, _HASH = tl.constexpr(WINDOW), tl.constexpr(HASH)
_AVERAGE, _ELECT, _ELECT_AND_DIVIDE = tl.constexpr(AVERAGE), tl.constexpr(ELECT), tl.constexpr(ELECT_AND_DIVIDE)
_NUMBERS = tl.constexpr(NUMBERS)


@kernel
def _kept(
    delta,
    addresses,
    numbers,
    first,
    lanes,
    inside,
    k: tl.constexpr,
    COUNT: tl.constexpr,
    RULE: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # Which elements of source k stay; see `masked_sum` for its numbers.
    row = numbers + k * _NUMBERS
    if RULE <= _WINDOW:
        keep = from_cut(delta, row, first, lanes, BLOCK)
        if RULE == _WINDOW:
            bits = magnitude(delta).to(tl.uint32, bitcast=True)
            top = tl.load(row + 2).to(tl.uint32)
            keep &= (bits < top) | ((bits == top) & (before(tl.load(row + 3), first, lanes, BLOCK) == 0))
    elif RULE == _HASH:
        high = (first >> 32).to(tl.uint32)
        key1 = tl.load(row + 5).to(tl.uint32) + high * 0x9E3779B9
        level = hash_level((first + lanes).to(tl.uint32), tl.load(row + 4).to(tl.uint32), key1)
        keep = level < tl.load(row + 6).to(tl.uint32)
    else:
        mask = tl.multiple_of(tl.load(addresses + 2 + COUNT + k).to(tl.pointer_type(tl.uint8)), 16)
        at = mask + (first + lanes)
        keep = (tl.load(at, mask=inside, other=0) if TAIL else tl.load(at)) != 0
    return keep


@kernel
def _summed(
    addresses,
    numbers,
    factors,
    first,
    lanes,
    stop,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    RULE: tl.constexpr,
    VOTE: tl.constexpr,
    ALIGNED: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets = first + lanes
    inside = offsets < stop
    own = load(tl.load(addresses + 1), offsets, inside, CODES, 1, ALIGNED, TAIL)
    deltas = ()
    total, kept, divisor = own, own, own  # until the first source
    for k in tl.static_range(COUNT):
        d = load(tl.load(addresses + 2 + k), offsets, inside, CODES, k + 2, ALIGNED, TAIL) - own
        keep = _kept(d, addresses, numbers, first, lanes, inside, k, COUNT, RULE, TAIL, BLOCK)
        d = tl.where(keep, d * tl.load(factors + k), 0.0)
        deltas = deltas + (d,)
        total = d if k == 0 else total + d
        if VOTE == _AVERAGE:
            kept = keep.to(tl.float32) if k == 0 else kept + keep.to(tl.float32)
    if VOTE == _AVERAGE:
        total = tl.div_rn(total, tl.maximum(kept, 1.0))
    elif VOTE >= _ELECT:
        # ParameterValues that are none pass on by way of the sign.
        sign = tl.where(total >= 0.0, 1.0, tl.where(total < 0.0, -1.0, total))
        for k in tl.static_range(COUNT):
            d = deltas[k] * sign
            agreeing = tl.where(d > 0.0, d, 0.0)
            total = agreeing if k == 0 else total + agreeing
            if VOTE == _ELECT_AND_DIVIDE:
                weight = tl.where(d > 0.0, tl.load(factors + COUNT + k), 0.0)
                divisor = weight if k == 0 else divisor + weight
        if VOTE == _ELECT_AND_DIVIDE:
            total = tl.div_rn(total, tl.where(divisor == 0.0, 1.0, divisor))
        total = total * sign
    merged = total * tl.load(factors + 2 * COUNT) + own
    store(tl.load(addresses), offsets, inside, merged, CODES, 0, ALIGNED, TAIL)


@kernel
def masked_sum(
    chunks,
    addresses,
    numbers,
    factors,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    RULE: tl.constexpr,
    VOTE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # `chunks` (C, 3) int64: tensor, start, stop. Per tensor:
    # `addresses` (T, 2 + K) int64: result, base, sources; with BITMAP K masks of one byte per element more.
    # `numbers` (T, K, 8) int64: magnitude bits from which on elements stay, and the index below which equal ones do;
    #     the same of those that are too large (WINDOW); key words and share of the hash (HASH); unused.
    # `factors` (T, 2 K + 1) float32: weights times what the rescale multiplies by, weights, the factor of the sum.
    chunk = chunks + 3 * tl.program_id(0)
    tensor = tl.load(chunk)
    start, stop = tl.multiple_of(tl.load(chunk + 1), BLOCK), tl.load(chunk + 2)
    addresses += tensor * (2 + 2 * COUNT if RULE > _HASH else 2 + COUNT)
    numbers += tensor * (COUNT * _NUMBERS)
    factors += tensor * (2 * COUNT + 1)
    blocks = (stop - start) // BLOCK
    whole = start + blocks * BLOCK
    lanes = tl.arange(0, BLOCK)
    for block in range(blocks):
        first = start + block * BLOCK
        _summed(addresses, numbers, factors, first, lanes, stop, CODES, COUNT, RULE, VOTE, ALIGNED, False, BLOCK)
    if whole < stop:
        _summed(addresses, numbers, factors, whole, lanes, stop, CODES, COUNT, RULE, VOTE, ALIGNED, True, BLOCK)
