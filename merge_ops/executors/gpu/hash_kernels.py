"""The hash of `numerics/random_masks.py` for kernels."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import triton.language as tl

from .load_store import kernel


@kernel
def hash_level(index, key0, key1):
    """Return the top 16 bits of the hash, uint32.

    `index` is the low half of the element's index; `key1` has the high half mixed in, see `second_key`.
    """
    x = index ^ key0
    x = x ^ (x >> 17)
    x = x * 0xED5AD4BB + key1
    x = x ^ (x >> 11)
    x = x * 0xAC4C1B51
    x = x ^ (x >> 15)
    x = x * 0x31848BAB
    return (x ^ (x >> 14)) >> 16


@kernel
def second_key(key1, start):
    """Return the second key word for elements whose index has the high half of `start`, uint32."""
    return key1.to(tl.uint32) + (start >> 32).to(tl.uint32) * 0x9E3779B9
