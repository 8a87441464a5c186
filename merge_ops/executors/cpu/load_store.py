"""Loads stored elements as float32 and stores float32 results, for all kernels.

A kernel takes addresses instead of arrays, so that one call can process many tensors of different dtypes. Loops are in
small functions of their own, because the compiler vectorizes these best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.core import cgutils
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from ..variants import Variant
from . import variants as _variants  # noqa: F401 - makes numba specialize kernels on variants

STRIP = 256  # elements; a dozen float32 strips take 12 KiB of the first-level cache
CODES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}  # numbers by which kernels distinguish dtypes


def compiled(function: Callable[..., Any]) -> Any:
    """Return the function, compiled at its first call and cached on disk; it runs without the interpreter's lock.

    With numpy's `error_model`, a division by 0 gives an infinity or NaN, as in torch, instead of an error.
    """
    try:
        return njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # no folder for the cache can be written to
        return njit(function, nogil=True, error_model="numpy")


def inlined(function: Callable[..., Any]) -> Any:
    """Return the function, inlined into every kernel that calls it, because a call would take as long as its body."""
    return njit(function, inline="always", error_model="numpy")


def pointer(element: Any) -> Any:
    """Return a function for kernels that converts an address, int64, to a pointer to this numba type."""

    @intrinsic
    def at(_context: Any, _address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(element)(types.int64), generate

    return at


_PAIR: Any = cgutils.int32_t.as_pointer()


@intrinsic
def _load_pair(_context: Any, _address: Any, _p: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        # A tensor of a 16-bit dtype may begin at any even address.
        return builder.load(builder.gep(builder.inttoptr(arguments[0], _PAIR), [arguments[1]]), align=2)

    return types.uint32(types.int64, types.int64), generate


@intrinsic
def _store_pair(_context: Any, _pair: Any, _address: Any, _p: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.store(arguments[0], builder.gep(builder.inttoptr(arguments[1], _PAIR), [arguments[2]]), align=2)
        return _context.get_dummy_value()

    return types.void(types.uint32, types.int64, types.int64), generate


_uint16_at: Any = pointer(types.uint16)
_float32_at: Any = pointer(types.float32)


@compiled
def _decode_bfloat16(stored, n, bits):
    for e in range(n):
        bits[e] = np.uint32(stored[e]) << np.uint32(16)


@compiled
def _decode_float16(stored, n, values):
    bits = values.view(np.uint32)
    for e in range(n):
        half = np.uint32(stored[e])
        # The exponent bias of float16 is 15, of float32 127: shifted into position, the exponent is 112 too small. The
        # multiplication corrects it, and normalizes subnormal values.
        bits[e] = np.uint32(np.uint32(half & np.uint32(0x7FFF)) << np.uint32(13))
        values[e] = values[e] * np.float32(2.0**112)
        top = np.uint32(np.uint32(half & np.uint32(0x8000)) << np.uint32(16))
        if np.uint32(half & np.uint32(0x7C00)) == np.uint32(0x7C00):
            top = np.uint32(top | np.uint32(0x7F800000))
        bits[e] = np.uint32(bits[e] | top)


@compiled
def _decode_float32(stored, n, values):
    for e in range(n):
        values[e] = stored[e]


@compiled
def decode(address, code, start, n, values):
    """Load elements [start, start + n) of the tensor at `address` into `values`, float32."""
    if code == 0:
        _decode_bfloat16(carray(_uint16_at(address + 2 * start), (n,)), n, values.view(np.uint32))
    elif code == 1:
        _decode_float16(carray(_uint16_at(address + 2 * start), (n,)), n, values)
    else:
        _decode_float32(carray(_float32_at(address + 4 * start), (n,)), n, values)


@compiled
def _rounded(value):
    """Return a float32 rounded to the nearest bfloat16, ties to even, in the upper 16 bits; the lower are undefined."""
    # Adding just under half a unit of the upper half, or half if that is odd, carries into it when it rounds up.
    x = np.float32(value).view(np.uint32)
    odd = np.uint32(np.uint32(x >> np.uint32(16)) & np.uint32(1))
    return np.uint32(0x7FC00000) if value != value else np.uint32(np.uint32(x + np.uint32(0x7FFF)) + odd)


@compiled
def _to_bfloat16(value):
    """Return a float32 rounded to the nearest bfloat16, ties to even, as uint16."""
    return np.uint16(_rounded(value) >> np.uint32(16))


@compiled
def _encode_bfloat16(values, n, stored):
    for e in range(n):
        stored[e] = _to_bfloat16(values[e])


class Access(Variant):
    """How a kernel reads its inputs and writes its result."""

    DIRECT = 0  # element by element in the tensors, all of which are bfloat16
    STRIPS = 1  # through float32 strips, for any dtypes: inputs are decoded to strips, the result is encoded from one


DIRECT, STRIPS = Access.DIRECT, Access.STRIPS


def likes(count: int) -> tuple[tuple[np.float32, ...], tuple[int, ...]]:
    """Return tuples of `count` float32 and int64 zeros, whose types specialize a kernel on the number of tensors."""
    return (np.float32(0),) * count, (0,) * count


@compiled
def element(access, address, e):
    """Return element e of the bfloat16 tensor (DIRECT) or the float32 strip at an address, as float32."""
    if access == DIRECT:
        return np.uint32(np.uint32(_uint16_at(address)[e]) << np.uint32(16)).view(np.float32)
    return np.float32(_float32_at(address)[e])


@compiled
def put(access, value, address, e):
    """Store a float32 as element e of the bfloat16 tensor (DIRECT) or the float32 strip at an address."""
    if access == DIRECT:
        _uint16_at(address)[e] = _to_bfloat16(value)
    else:
        _float32_at(address)[e] = value


@compiled
def pair(like, addresses, p):
    """Return elements 2 p and 2 p + 1 of bfloat16 tensors, as two tuples of float32 as long as `like`.

    Loading pairs, and storing them with `put_pair`, takes half the instructions of single elements.
    """
    even, odd = like, like
    for k in range(len(like)):
        both = np.uint32(_load_pair(addresses[k], p))  # pyright: ignore[reportCallIssue] - an intrinsic
        even = tuple_setitem(even, k, np.uint32(both << np.uint32(16)).view(np.float32))  # pyright: ignore[reportCallIssue]
        odd = tuple_setitem(odd, k, np.uint32(both & np.uint32(0xFFFF0000)).view(np.float32))  # pyright: ignore[reportCallIssue]
    return even, odd


@compiled
def put_pair(even, odd, address, p):
    """Store two float32 as elements 2 p and 2 p + 1 of a bfloat16 tensor."""
    both = np.uint32(_rounded(odd) & np.uint32(0xFFFF0000))
    both = np.uint32(both | np.uint32(_rounded(even) >> np.uint32(16)))
    _store_pair(both, address, p)  # pyright: ignore[reportCallIssue] - an intrinsic


@compiled
def _encode_float16(values, n, stored):
    bits = values.view(np.uint32)
    for e in range(n):
        sign = np.uint16(np.uint32(bits[e] >> np.uint32(16)) & np.uint32(0x8000))
        x = np.uint32(bits[e] & np.uint32(0x7FFFFFFF))
        if x >= np.uint32(0x47800000):  # at least 65536, infinite, or NaN
            half = np.uint16(0x7E00) if x > np.uint32(0x7F800000) else np.uint16(0x7C00)
        elif x < np.uint32(0x38800000):  # below 2**-14: subnormal in float16, a multiple of 2**-24
            bits[e] = x
            values[e] = values[e] + np.float32(0.5)  # the last bit of 0.5 is 2**-24, so the addition rounds to that
            half = np.uint16(bits[e] - np.uint32(0x3F000000))
        else:  # normal: changes the exponent bias by -112, and rounds to nearest even as `_rounded` does
            odd = np.uint32(np.uint32(x >> np.uint32(13)) & np.uint32(1))
            half = np.uint16(np.uint32(np.uint32(np.uint32(x + np.uint32(0xC8000FFF)) + odd) >> np.uint32(13)))
        stored[e] = np.uint16(sign | half)


@compiled
def _encode_float32(values, n, stored):
    for e in range(n):
        stored[e] = values[e]


@compiled
def encode(values, n, address, code, start):
    """Store `values`, rounded to nearest even, as elements [start, start + n) of the tensor at `address`."""
    if code == 0:
        _encode_bfloat16(values, n, carray(_uint16_at(address + 2 * start), (n,)))
    elif code == 1:
        _encode_float16(values, n, carray(_uint16_at(address + 2 * start), (n,)))
    else:
        _encode_float32(values, n, carray(_float32_at(address + 4 * start), (n,)))


@compiled
def _subtract(values, base, n):
    """Subtract the base from the values, in place."""
    for e in range(n):
        values[e] -= base[e]


@compiled
def decode_delta(addresses, codes, source, start, n, base, values):
    """Load one source's task vector into `values` and the base into `base`; the base is the first address."""
    decode(addresses[0], codes[0], start, n, base)
    decode(addresses[source], codes[source], start, n, values)
    _subtract(values, base, n)


@compiled
def decode_all(addresses, codes, start, n, strips):
    """Load elements [start, start + n) of every tensor into the rows of `strips`, (len(addresses), STRIP) float32."""
    for k in range(len(addresses)):
        decode(addresses[k], codes[k], start, n, strips[k])


@compiled
def filled(like, row):
    """Return the first elements of `row` as a tuple as long as `like`.

    The length of a tuple is part of its numba type: loops over it are unrolled, in a kernel per number of sources.
    """
    result = like
    for k in range(len(like)):
        result = tuple_setitem(result, k, row[k])  # pyright: ignore[reportCallIssue] - an intrinsic
    return result


@compiled
def opened(access, like, addresses, codes, start, n, strips):
    """Return the addresses of elements [start, start + n) of tensors, a tuple as long as `like`.

    They are in the tensors themselves with DIRECT, and decoded to the rows of `strips` with STRIPS.
    """
    result = like
    for k in range(len(like)):
        if access == DIRECT:
            address = addresses[k] + 2 * start
        else:
            decode(addresses[k], codes[k], start, n, strips[k])
            address = np.int64(strips[k].ctypes.data)
        result = tuple_setitem(result, k, address)  # pyright: ignore[reportCallIssue] - an intrinsic
    return result
