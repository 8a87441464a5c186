"""The kernel of masked task-vector sums: mask, rescale, weight, elect signs, sum, divide, in one pass over memory.

`MaskedSum` states the formula. Triton compiles a kernel per number of sources, `MaskKind` (KIND) and `Vote` (VOTE), so
that it has no branches of these.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import triton.language as tl

from ..variants import MaskKind, Vote
from .hash_kernels import hash_level, second_key
from .load_store import kernel, load, store
from .magnitudes.values import before, from_cut, magnitude

INTEGERS = 8  # per source
_WINDOW = tl.constexpr(int(MaskKind.WINDOW))
_HASH, _RANK = tl.constexpr(int(MaskKind.HASH)), tl.constexpr(int(MaskKind.RANK))
_SUM, _AVERAGE = tl.constexpr(int(Vote.SUM)), tl.constexpr(int(Vote.AVERAGE))
_ELECT_AND_DIVIDE = tl.constexpr(int(Vote.ELECT_AND_DIVIDE))
_INTEGERS = tl.constexpr(INTEGERS)


@kernel
def _kept(
    delta,
    addresses,
    integers,
    first,
    lanes,
    inside,
    k: tl.constexpr,
    COUNT: tl.constexpr,
    KIND: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # Which elements of source k stay; see `masked_sum` for its integers.
    row = integers + k * _INTEGERS
    if KIND == _HASH:
        level = hash_level(
            (first + lanes).to(tl.uint32), tl.load(row + 4).to(tl.uint32), second_key(tl.load(row + 5), first)
        )
        keep = level < tl.load(row + 6).to(tl.uint32)
    elif KIND == _RANK:
        mask = tl.multiple_of(tl.load(addresses + 2 + COUNT + k).to(tl.pointer_type(tl.uint8)), 16)
        at = mask + (first + lanes)
        keep = (tl.load(at, mask=inside, other=0) if TAIL else tl.load(at)) != 0
    else:
        keep = from_cut(delta, row, first, lanes, BLOCK)
        if KIND == _WINDOW:
            # Not above the second cut: elements that equal it stay from its bound on.
            bits = magnitude(delta).to(tl.uint32, bitcast=True)
            top = tl.load(row + 2).to(tl.uint32)
            keep &= (bits < top) | ((bits == top) & (before(tl.load(row + 3), first, lanes, BLOCK) == 0))
    return keep


@kernel
def _elected(votes, deltas, weights, COUNT: tl.constexpr, VOTE: tl.constexpr):
    # The elect and disjoint-merge steps of TIES (arXiv:2306.01708). With votes = sum_k D_k, sign = sgn(votes) (+ for 0)
    # and A = {k: D_k sign > 0}: sum_{k in A} D_k, divided by sum_{k in A} w_k with ELECT_AND_DIVIDE. NaN propagates
    # through the sign.
    sign = tl.where(votes >= 0.0, 1.0, tl.where(votes < 0.0, -1.0, votes))
    total, divisor = votes, votes  # only for their types: the first source replaces them
    for k in tl.static_range(COUNT):
        d = deltas[k] * sign  # positive if the source agrees
        agreeing = tl.where(d > 0.0, d, 0.0)
        total = agreeing if k == 0 else total + agreeing
        if VOTE == _ELECT_AND_DIVIDE:
            weight = tl.where(d > 0.0, tl.load(weights + k), 0.0)
            divisor = weight if k == 0 else divisor + weight
    if VOTE == _ELECT_AND_DIVIDE:
        total = tl.div_rn(total, tl.where(divisor == 0.0, 1.0, divisor))
    return total * sign


@kernel
def _merge_block(
    addresses,
    integers,
    factors,
    first,
    lanes,
    stop,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    KIND: tl.constexpr,
    VOTE: tl.constexpr,
    ALIGNED: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    offsets = first + lanes
    inside = offsets < stop
    base = load(tl.load(addresses + 1), offsets, inside, CODES, 1, ALIGNED, TAIL)
    deltas = ()
    total, kept = base, base  # only for their types: the first source replaces them
    for k in tl.static_range(COUNT):
        d = load(tl.load(addresses + 2 + k), offsets, inside, CODES, k + 2, ALIGNED, TAIL) - base
        keep = _kept(d, addresses, integers, first, lanes, inside, k, COUNT, KIND, TAIL, BLOCK)
        d = tl.where(keep, d * tl.load(factors + k), 0.0)
        deltas = deltas + (d,)
        total = d if k == 0 else total + d  # starting from 0 would turn a sum of -0 into +0
        if VOTE == _AVERAGE:
            kept = keep.to(tl.float32) if k == 0 else kept + keep.to(tl.float32)
    if VOTE == _AVERAGE:
        total = tl.div_rn(total, tl.maximum(kept, 1.0))
    elif VOTE != _SUM:
        total = _elected(total, deltas, factors + COUNT, COUNT, VOTE)
    merged = total * tl.load(factors + 2 * COUNT) + base
    store(tl.load(addresses), offsets, inside, merged, CODES, 0, ALIGNED, TAIL)


@kernel
def masked_sum(
    chunks,
    addresses,
    integers,
    factors,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    KIND: tl.constexpr,
    VOTE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Merge chunks (tensor, start, stop), (C, 3) int64.

    Per tensor:

    * `addresses` (T, 2 + K) int64: result, base, sources; for RANK also K masks of one byte per element.
    * `integers` (T, K, 8) int64: the bits and the bound of the cut above which elements stay; those of the cut above
      which they go (WINDOW); key words and share of the hash (HASH); one unused.
    * `factors` (T, 2 K + 1) float32: weights times rescale factors, weights, the factor of the sum.
    """
    chunk = chunks + 3 * tl.program_id(0)
    tensor = tl.load(chunk)
    start, stop = tl.multiple_of(tl.load(chunk + 1), BLOCK), tl.load(chunk + 2)
    addresses += tensor * (2 + 2 * COUNT if KIND == _RANK else 2 + COUNT)
    integers += tensor * (COUNT * _INTEGERS)
    factors += tensor * (2 * COUNT + 1)
    # Whole blocks are read and written without masks; only a tensor's last block needs them.
    blocks = (stop - start) // BLOCK
    whole = start + blocks * BLOCK
    lanes = tl.arange(0, BLOCK)
    for block in range(blocks):
        first = start + block * BLOCK
        _merge_block(addresses, integers, factors, first, lanes, stop, CODES, COUNT, KIND, VOTE, ALIGNED, False, BLOCK)
    if whole < stop:
        _merge_block(addresses, integers, factors, whole, lanes, stop, CODES, COUNT, KIND, VOTE, ALIGNED, True, BLOCK)
