"""The magnitudes that elements are selected by: those of a task vector, or the variances of several.

A magnitude is the float32 bits without the sign, which sort like the absolute values. With one source it is that of its
task vector, with several that of the variance of the task vectors over the sources.
"""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from ..load_store import DIRECT, compiled, element, pair


@compiled
def values_at(access, like, x, e):
    """Return element e of the tensors (or strips) at the addresses `x`, as a tuple of float32 as long as `like`."""
    values = like
    for k in range(len(like)):
        values = tuple_setitem(values, k, element(access, x[k], e))  # pyright: ignore[reportCallIssue] - an intrinsic
    return values


@compiled
def magnitude(x):
    """Return the magnitude of one element, uint32, from its values in the base and the sources."""
    if len(x) == 2:
        return np.uint32(np.float32(x[1] - x[0]).view(np.uint32) & np.uint32(0x7FFFFFFF))
    # var = mean_k (T_k - mean_j T_j)^2, with the operations in the order of `variance` in methods/sce.py, each rounded
    # to float32, so the bits are equal.
    share = np.float32(1.0 / (len(x) - 1))
    mean = np.float32(0)
    for k in range(1, len(x)):
        d = np.float32(x[k] - x[0])
        mean = d if k == 1 else np.float32(mean + d)
    mean = np.float32(mean * share)
    total = np.float32(0)
    for k in range(1, len(x)):
        d = np.float32(np.float32(x[k] - x[0]) - mean)
        total = np.float32(total + np.float32(d * d))
    return np.uint32(np.float32(total * share).view(np.uint32) & np.uint32(0x7FFFFFFF))


@compiled
def magnitudes(access, like, x, n, bits):
    """Write the magnitudes of n elements to `bits`, uint32."""
    for e in range(n):
        bits[e] = magnitude(values_at(access, like, x, e))


@compiled
def count_between(access, like, x, n, low, high):
    """Return how many of n elements have magnitudes in [low, high]."""
    # In unsigned arithmetic, bits - low <= high - low tests both bounds at once: below `low` the difference wraps
    # around.
    span, count = np.uint32(high - low), np.uint32(0)
    paired = n // 2 if access == DIRECT else 0
    for p in range(paired):
        even, odd = pair(like, x, p)
        count += np.uint32(np.uint32(magnitude(even) - low) <= span)
        count += np.uint32(np.uint32(magnitude(odd) - low) <= span)
    for e in range(2 * paired, n):
        count += np.uint32(np.uint32(magnitude(values_at(access, like, x, e)) - low) <= span)
    return np.int64(count)


@compiled
def between(bits, n, low, high):
    """Return how many of n uint32 are in [low, high]."""
    count = np.uint32(0)
    for e in range(n):
        count += np.uint32((bits[e] >= low) & (bits[e] <= high))
    return np.int64(count)
