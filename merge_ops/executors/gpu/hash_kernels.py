"""The hash of `numerics/random_masks.py`, for kernels."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import triton.language as tl

from ...numerics.random_masks import FACTORS, HIGH_FACTOR, SHIFTS
from .load_store import kernel

_SHIFT0, _SHIFT1, _SHIFT2, _SHIFT3 = (tl.constexpr(shift) for shift in SHIFTS)
_FACTOR0, _FACTOR1, _FACTOR2 = (tl.constexpr(factor) for factor in FACTORS)
_HIGH_FACTOR = tl.constexpr(HIGH_FACTOR)


@kernel
def hash_level(index, key0, key1):
    """Return the hash level of elements, the top 16 bits of their hash, uint32.

    `index` is the low half of an element's index; `key1` comes from `second_key`.
    """
    x = index ^ key0
    x = x ^ (x >> _SHIFT0)
    x = x * _FACTOR0 + key1
    x = x ^ (x >> _SHIFT1)
    x = x * _FACTOR1
    x = x ^ (x >> _SHIFT2)
    x = x * _FACTOR2
    return (x ^ (x >> _SHIFT3)) >> 16


@kernel
def second_key(key1, start):
    """Return the second key word, uint32, for elements whose index has the same high half as `start`."""
    return key1.to(tl.uint32) + (start >> 32).to(tl.uint32) * _HIGH_FACTOR
