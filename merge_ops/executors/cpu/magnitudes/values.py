"""The magnitudes that elements are selected by: those of a task vector, or the variances of several.

They are float32 bits without the sign, which order as the absolute values do. With one source they are those of its
task vector, with more sources those of the variance over the sources.
"""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from ..load_store import DIRECT, compiled, number, pair


@compiled
def values_at(access, like, x, e):
    """Return element e of the inputs at the addresses `x`, a tuple of float32 as long as `like`."""
    values = like
    for k in range(len(like)):
        values = tuple_setitem(values, k, number(access, x[k], e))  # pyright: ignore[reportCallIssue] - an intrinsic
    return values


@compiled
def magnitude(x):
    """Return the magnitude of one element, uint32, from its values in the base and the sources."""
    if len(x) == 2:
        return np.uint32(np.float32(x[1] - x[0]).view(np.uint32) & np.uint32(0x7FFFFFFF))
    # The variance as in methods/sce.py: the mean of the task vectors first, then that of the squared differences. All
    # operations are in that order and each is rounded to float32, so the bits are equal.
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
def magnitudes(access, like, x, n, found):
    """Write the magnitudes of n elements to `found`, uint32."""
    for e in range(n):
        found[e] = magnitude(values_at(access, like, x, e))


@compiled
def count_between(access, like, x, n, low, high):
    """Return how many of n elements have magnitudes in [low, high]."""
    # bits - low <= high - low in unsigned arithmetic is both comparisons in one: below `low` the difference wraps.
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
def between(found, n, low, high):
    """Return how many of n uint32 are in [low, high]."""
    count = np.uint32(0)
    for e in range(n):
        count += np.uint32((found[e] >= low) & (found[e] <= high))
    return np.int64(count)
