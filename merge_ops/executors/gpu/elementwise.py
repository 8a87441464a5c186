"""Kernels of methods that are neither linear combinations nor masked sums."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import triton.language as tl

from .load_store import from_cut, kernel, load, store, variance

# Each has a kernel of its own, without branches; SCE_CUT is SCE on the elements of largest variance alone.
NEARSWAP, RAM, CONSENSUS, FUSION, SCE, SCE_CUT = 0, 1, 2, 3, 4, 5
NUMBERS = 2  # whole numbers per tensor
LANES = 1 << 14  # a chunk of `reductions.CHUNK` elements is 16 rows of them, which `energies` adds to one
_NEARSWAP, _RAM, _CONSENSUS = tl.constexpr(NEARSWAP), tl.constexpr(RAM), tl.constexpr(CONSENSUS)
_FUSION, _SCE_CUT = tl.constexpr(FUSION), tl.constexpr(SCE_CUT)
_LANES = tl.constexpr(LANES)
_NUMBERS = tl.constexpr(NUMBERS)


@kernel
def _near(x, own, t):
    distance = tl.maximum(tl.abs(own - x), 1e-6)
    share = tl.maximum(tl.minimum(tl.div_rn(t, distance), 1.0), 0.0)
    return x * share + own * (1.0 - share)


@kernel
def _averaged(deltas, parameters, COUNT: tl.constexpr):
    # Elements that one source alone moved times its scale, others divided by how many moved them.
    epsilon = tl.load(parameters)
    count = deltas[0]  # until the first source
    for k in tl.static_range(COUNT):
        moved = (tl.abs(deltas[k]) > epsilon).to(tl.float32)
        count = moved if k == 0 else count + moved
    shared = tl.div_rn(tl.full(count.shape, 1.0, tl.float32), tl.maximum(count, 1.0))
    total = count
    for k in tl.static_range(COUNT):
        moved = (tl.abs(deltas[k]) > epsilon).to(tl.float32)
        term = deltas[k] * moved * tl.where(count == 1.0, tl.load(parameters + 2 + k), shared)
        total = term if k == 0 else total + term
    return total * tl.load(parameters + 1)


@kernel
def _needed(deltas, parameters, COUNT: tl.constexpr):
    # The sum where enough sources outweigh the threshold's part of what the others add.
    threshold = tl.load(parameters)
    total = deltas[0]
    for k in tl.static_range(1, COUNT):
        total += deltas[k]
    votes = (tl.abs(deltas[0]) > tl.abs(total - deltas[0]) * threshold).to(tl.float32)
    for k in tl.static_range(1, COUNT):
        votes += (tl.abs(deltas[k]) > tl.abs(total - deltas[k]) * threshold).to(tl.float32)
    return total * (votes >= tl.load(parameters + 1)).to(tl.float32) * tl.load(parameters + 2)


@kernel
def _weighed(deltas, kept, parameters, COUNT: tl.constexpr):
    # The elements of the majority's sign, weighed by their sources' shares of the energy.
    votes = deltas[0] * kept
    for k in tl.static_range(1, COUNT):
        votes += deltas[k] * kept
    positive = votes >= 0.0
    total, divisor = votes, votes  # until the first source
    for k in tl.static_range(COUNT):
        d = deltas[k] * kept
        agrees = (positive & (d > 0.0)) | ((positive == 0) & (d < 0.0))
        share = agrees.to(tl.float32) * tl.load(parameters + 1 + k)
        divisor = share if k == 0 else divisor + share
        total = d * share if k == 0 else total + d * share
    return tl.div_rn(total, tl.maximum(divisor, 1e-6)) * tl.load(parameters)


@kernel
def _merged(
    addresses,
    numbers,
    parameters,
    first,
    lanes,
    stop,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    RULE: tl.constexpr,
    ALIGNED: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets = first + lanes
    inside = offsets < stop
    own = load(tl.load(addresses + 1), offsets, inside, CODES, 1, ALIGNED, TAIL)
    if RULE == _NEARSWAP:
        x = load(tl.load(addresses + 2), offsets, inside, CODES, 2, ALIGNED, TAIL)
        merged = _near(x, own, tl.load(parameters))
    else:
        deltas = ()
        for k in tl.static_range(COUNT):
            deltas = deltas + (load(tl.load(addresses + 2 + k), offsets, inside, CODES, k + 2, ALIGNED, TAIL) - own,)
        if RULE == _RAM:
            change = _averaged(deltas, parameters, COUNT)
        elif RULE == _CONSENSUS:
            change = _needed(deltas, parameters, COUNT)
        elif RULE == _FUSION:
            row = offsets.to(tl.uint32) // tl.load(numbers + 1).to(tl.uint32)
            divergence = tl.load(tl.load(numbers).to(tl.pointer_type(tl.float32)) + row, mask=inside, other=0.0)
            change = deltas[0] * (tl.abs(deltas[0]) * divergence >= tl.load(parameters)).to(tl.float32)
        else:
            kept = tl.full(own.shape, 1.0, tl.float32)
            if RULE == _SCE_CUT:
                kept = from_cut(variance(deltas, COUNT), numbers, first, lanes, BLOCK).to(tl.float32)
            change = _weighed(deltas, kept, parameters, COUNT)
        merged = change + own
    store(tl.load(addresses), offsets, inside, merged, CODES, 0, ALIGNED, TAIL)


@kernel
def elementwise(
    chunks,
    addresses,
    numbers,
    parameters,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    RULE: tl.constexpr,
    STRIDE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # `chunks` (C, 3) int64: tensor, start, stop. Per tensor:
    # `addresses` (T, 2 + K) int64: result, base, sources.
    # `numbers` (T, 2) int64: FUSION: address of the divergences, float32, and how many elements share one; SCE_CUT:
    #     magnitude bits of the variance from which on elements stay, and the index below which equal ones do.
    # `parameters` (T, STRIDE) float32: NEARSWAP: t; RAM: epsilon, factor of the sum, each source's scale of what it
    #     alone moved; CONSENSUS: threshold, agreement, factor; FUSION: threshold; SCE: factor, shares of the energy.
    chunk = chunks + 3 * tl.program_id(0)
    tensor = tl.load(chunk)
    start, stop = tl.multiple_of(tl.load(chunk + 1), BLOCK), tl.load(chunk + 2)
    addresses += tensor * (2 + COUNT)
    numbers += tensor * _NUMBERS
    parameters += tensor * STRIDE
    blocks = (stop - start) // BLOCK
    whole = start + blocks * BLOCK
    lanes = tl.arange(0, BLOCK)
    for block in range(blocks):
        first = start + block * BLOCK
        _merged(addresses, numbers, parameters, first, lanes, stop, CODES, COUNT, RULE, ALIGNED, False, BLOCK)
    if whole < stop:
        _merged(addresses, numbers, parameters, whole, lanes, stop, CODES, COUNT, RULE, ALIGNED, True, BLOCK)


@kernel
def _square(
    addresses,
    cut,
    source,
    first,
    lanes,
    stop,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets = first + lanes
    inside = offsets < stop
    own = load(tl.load(addresses), offsets, inside, CODES, 0, ALIGNED, True)
    deltas = ()
    chosen = own
    for k in tl.static_range(COUNT):
        d = load(tl.load(addresses + 1 + k), offsets, inside, CODES, k + 1, ALIGNED, True) - own
        deltas = deltas + (d,)
        chosen = tl.where(source == k, d, chosen)
    kept = from_cut(variance(deltas, COUNT), cut, first, lanes, BLOCK).to(tl.float32)
    value = (chosen * kept).to(tl.float64)
    return value * value


@kernel
def energies(
    addresses,
    cut,
    size,
    first_chunk,
    sums,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # Of one tensor: squares of the task vectors on the elements of largest variance, the first halvings of the tree of
    # `reductions.row_sums`. Programs: (source, block of lanes, chunk). `addresses` (1 + K,) int64: base, sources;
    # `cut` (2,) int64 as in `elementwise`; `sums` (chunks, K, LANES) float64, zeros before.
    source = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    lane = tl.program_id(1) * BLOCK
    first = (first_chunk + tl.program_id(2)).to(tl.int64) * (16 * _LANES) + lane
    if first < size:
        total = tl.zeros([BLOCK], tl.float64)
        quad, pair = total, total
        # 16 rows, each added to the one half of the rows that are left away from it, as soon as it can be.
        for d in tl.static_range(2):
            for c in tl.static_range(2):
                for b in tl.static_range(2):
                    at = first + (4 * b + 2 * c + d) * _LANES
                    one = _square(addresses, cut, source, at, lanes, size, CODES, COUNT, ALIGNED, BLOCK)
                    at += 8 * _LANES
                    other = _square(addresses, cut, source, at, lanes, size, CODES, COUNT, ALIGNED, BLOCK)
                    pair = one + other if b == 0 else pair + (one + other)
                quad = pair if c == 0 else quad + pair
            total = quad if d == 0 else total + quad
        place = (tl.program_id(2) * COUNT + source).to(tl.int64) * _LANES + lane
        tl.store(sums + place + lanes, total)
