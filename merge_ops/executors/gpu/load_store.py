"""What kernels share: stored numbers as float32 and back, magnitudes and cuts, variances, the hash of `hashing.py`."""

# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl


def kernel(function: Callable[..., Any]) -> Any:
    """The function, compiled by Triton for the types it is called with."""
    return triton.jit(function)


@kernel
def pointer(address, CODES: tl.constexpr, place: tl.constexpr, ALIGNED: tl.constexpr):
    """The address as a pointer to the tensor's dtype (bfloat16: its bits); ALIGNED promises multiples of 16 bytes."""
    code: tl.constexpr = (CODES >> (2 * place)) & 3
    if code == 0:
        found = address.to(tl.pointer_type(tl.uint16))
    elif code == 1:
        found = address.to(tl.pointer_type(tl.float16))
    else:
        found = address.to(tl.pointer_type(tl.float32))
    if ALIGNED:
        found = tl.multiple_of(found, 16)
    return found


@kernel
def load(address, offsets, inside, CODES: tl.constexpr, place: tl.constexpr, ALIGNED: tl.constexpr, TAIL: tl.constexpr):
    """Elements at `offsets` as float32; only with TAIL those alone that are `inside`, the others 0."""
    at = pointer(address, CODES, place, ALIGNED) + offsets
    stored = tl.load(at, mask=inside, other=0.0) if TAIL else tl.load(at)
    code: tl.constexpr = (CODES >> (2 * place)) & 3
    # Spelled out for bfloat16, because Triton's interpreter loses the smallest numbers.
    return (stored.to(tl.uint32) << 16).to(tl.float32, bitcast=True) if code == 0 else stored.to(tl.float32)


@kernel
def store(
    address,
    offsets,
    inside,
    values,
    CODES: tl.constexpr,
    place: tl.constexpr,
    ALIGNED: tl.constexpr,
    TAIL: tl.constexpr,
):
    """Float32 values, rounded to nearest even, to elements at `offsets`."""
    at = pointer(address, CODES, place, ALIGNED) + offsets
    code: tl.constexpr = (CODES >> (2 * place)) & 3
    if code == 0:
        stored = to_bfloat16(values)
    elif code == 1:
        stored = values.to(tl.float16)
    else:
        stored = values
    if TAIL:
        tl.store(at, stored, mask=inside)
    else:
        tl.store(at, stored)


@kernel
def to_bfloat16(values):
    """Float32 values rounded to nearest even; spelled out because Triton's interpreter cuts digits off."""
    bits = values.to(tl.uint32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    rounded = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC0, rounded)
    return rounded.to(tl.uint16)


@kernel
def magnitude(values):
    """The float32 bits without the sign, int32: they order as the magnitudes do."""
    return values.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@kernel
def before(bound, first, lanes, BLOCK: tl.constexpr):
    """Elements of the block with an index below `bound`; compared in 32 bits."""
    return lanes < tl.minimum(tl.maximum(bound - first, 0), BLOCK).to(tl.int32)


@kernel
def from_cut(values, cut, first, lanes, BLOCK: tl.constexpr):
    """Which values stay by the magnitude bits and the index bound at `cut`, int64; see `masks.Cut`."""
    bits = magnitude(values).to(tl.uint32, bitcast=True)
    least = tl.load(cut).to(tl.uint32)
    return (bits > least) | ((bits == least) & before(tl.load(cut + 1), first, lanes, BLOCK))


@kernel
def variance(deltas, COUNT: tl.constexpr):
    """The variance of COUNT task vectors, each element's own."""
    mean = deltas[0]
    for k in tl.static_range(1, COUNT):
        mean += deltas[k]
    mean = mean * (1.0 / COUNT)
    total = (deltas[0] - mean) * (deltas[0] - mean)
    for k in tl.static_range(1, COUNT):
        total += (deltas[k] - mean) * (deltas[k] - mean)
    return total * (1.0 / COUNT)


@kernel
def hash_level(index, key0, key1):
    """The top 16 bits of the hash, uint32; `index` is the low half, `key1` has the high half mixed in."""
    x = index ^ key0
    x = x ^ (x >> 17)
    x = x * 0xED5AD4BB + key1
    x = x ^ (x >> 11)
    x = x * 0xAC4C1B51
    x = x ^ (x >> 15)
    x = x * 0x31848BAB
    return (x ^ (x >> 14)) >> 16
