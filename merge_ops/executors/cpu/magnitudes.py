"""The magnitudes that elements are selected by: those of a task vector, or the variance of several.

They are float32 bits without the sign, which order as the numbers do. Which of the two, the number of tensors says:
with one source it is the magnitude of its task vector, with more of them the variance of their task vectors.
"""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from .load_store import compiled, number, pair


@compiled
def values_at(form, like, x, e):
    """Element e of what lies at the addresses `x`, a tuple of float32 as long as `like`; `form` as in strips.py."""
    values = like
    for k in range(len(like)):
        values = tuple_setitem(values, k, number(form, x[k], e))  # pyright: ignore[reportCallIssue] - an intrinsic
    return values


@compiled
def magnitude(x):
    """What an element of the tensors, the base first, is selected by: uint32."""
    if len(x) == 2:
        return np.uint32(np.float32(x[1] - x[0]).view(np.uint32) & np.uint32(0x7FFFFFFF))
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
def magnitudes(form, like, x, n, found):
    """The magnitudes of n elements into `found`, uint32."""
    for e in range(n):
        found[e] = magnitude(values_at(form, like, x, e))


@compiled
def count_between(form, like, x, n, low, high):
    """How many of n elements have magnitudes in [low, high]."""
    span, count = np.uint32(high - low), np.uint32(0)
    paired = n // 2 if len(form) == 1 else 0
    for p in range(paired):
        even, odd = pair(like, x, p)
        count += np.uint32(np.uint32(magnitude(even) - low) <= span)
        count += np.uint32(np.uint32(magnitude(odd) - low) <= span)
    for e in range(2 * paired, n):
        count += np.uint32(np.uint32(magnitude(values_at(form, like, x, e)) - low) <= span)
    return np.int64(count)


@compiled
def between(found, n, low, high):
    """How many of n uint32 are in [low, high]."""
    count = np.uint32(0)
    for e in range(n):
        count += np.uint32((found[e] >= low) & (found[e] <= high))
    return np.int64(count)
