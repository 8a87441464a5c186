"""Loads stored elements as float32 and stores float32 results, for all kernels."""

# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl


def kernel(function: Callable[..., Any]) -> Any:
    """Return the function, compiled by Triton for the types it is called with."""
    return triton.jit(function)


@kernel
def pointer(address, CODES: tl.constexpr, place: tl.constexpr, ALIGNED: tl.constexpr):
    """Return the address as a pointer to the tensor's dtype (bfloat16: its bits).

    CODES has two bits per tensor, see `launch.codes`. ALIGNED promises an address that is a multiple of 16 bytes, so
    that a thread reads or writes 16 bytes at a time.
    """
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
    """Return the elements at `offsets` as float32; with TAIL those that are not `inside` are 0, else all must be."""
    at = pointer(address, CODES, place, ALIGNED) + offsets
    stored = tl.load(at, mask=inside, other=0.0) if TAIL else tl.load(at)
    code: tl.constexpr = (CODES >> (2 * place)) & 3
    # bfloat16 is the upper half of float32. Spelled out, because Triton's interpreter loses subnormal values.
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
    """Write float32 values, rounded to nearest even, to the elements at `offsets`."""
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
    """Return float32 values rounded to nearest even; spelled out because Triton's interpreter truncates."""
    bits = values.to(tl.uint32, bitcast=True)
    # Adding just under half a unit of the upper half, or half if that is odd, carries into it when it rounds up.
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    rounded = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC0, rounded)
    return rounded.to(tl.uint16)
