"""Kernels of linear combinations: out = sum_i c_i x_i, with one coefficient per tensor, or one per row or column."""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import triton.language as tl

from .load_store import kernel, load, store


@kernel
def _combined(
    addresses,
    coefficients,
    offsets,
    inside,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    ALIGNED: tl.constexpr,
    TAIL: tl.constexpr,
):
    total = 0.0
    for k in tl.static_range(COUNT):
        x = load(tl.load(addresses + 1 + k), offsets, inside, CODES, k + 1, ALIGNED, TAIL)
        term = x * tl.load(coefficients + k)
        total = term if k == 0 else total + term
    store(tl.load(addresses), offsets, inside, total, CODES, 0, ALIGNED, TAIL)


@kernel
def combine(
    chunks,
    addresses,
    coefficients,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Merge chunks (tensor, start, stop), (C, 3) int64, with one coefficient per input.

    Per tensor: `addresses` (T, 1 + K) int64, the result's first, and `coefficients` (T, K) float32.
    """
    chunk = chunks + 3 * tl.program_id(0)
    tensor = tl.load(chunk)
    start, stop = tl.multiple_of(tl.load(chunk + 1), BLOCK), tl.load(chunk + 2)
    addresses += tensor * (1 + COUNT)
    coefficients += tensor * COUNT
    blocks = (stop - start) // BLOCK
    whole = start + blocks * BLOCK
    lanes = tl.arange(0, BLOCK)
    for block in range(blocks):
        offsets = start + block * BLOCK + lanes
        _combined(addresses, coefficients, offsets, offsets < stop, CODES, COUNT, ALIGNED, False)
    if whole < stop:
        offsets = whole + lanes
        _combined(addresses, coefficients, offsets, offsets < stop, CODES, COUNT, ALIGNED, True)


@kernel
def combine_rows(
    addresses,
    coefficients,
    size,
    inner,
    period,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Merge one tensor of `size` elements with coefficients (K, period) float32: element e at e // inner % period."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    # Divisions of 64-bit integers are slow: only tensors of 2**31 elements and more use them.
    places = offsets // inner % period if WIDE else offsets.to(tl.int32) // inner % period
    total = 0.0
    for k in tl.static_range(COUNT):
        x = load(tl.load(addresses + 1 + k), offsets, inside, CODES, k + 1, False, True)
        term = x * tl.load(coefficients + k * period + places, mask=inside, other=0.0)
        total = term if k == 0 else total + term
    store(tl.load(addresses), offsets, inside, total, CODES, 0, False, True)
