"""The magnitudes that elements are selected by: those of a task vector, or the variances of several.

A magnitude is the float32 bits without the sign, which sort like the absolute values. With one source it is that of its
task vector, with several that of the variance of the task vectors over the sources.
"""

# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

import torch
import triton.language as tl

from ....methods import sce
from ....numerics.reductions import INFINITE
from ..load_store import kernel, load

Inputs = tuple[torch.Tensor, ...]  # the base and the sources


@kernel
def magnitude(values):
    """Return the float32 bits without the sign, int32: they order as the absolute values do."""
    return values.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@kernel
def before(bound, first, lanes, BLOCK: tl.constexpr):
    """Return which elements of the block have an index below `bound`; clamped so that 32 bits suffice to compare."""
    return lanes < tl.minimum(tl.maximum(bound - first, 0), BLOCK).to(tl.int32)


@kernel
def from_cut(values, cut, first, lanes, BLOCK: tl.constexpr):
    """Return which values a cut keeps; its magnitude bits and index bound are at `cut`, int64; see `mask_cuts.Cut`."""
    bits = magnitude(values).to(tl.uint32, bitcast=True)
    least = tl.load(cut).to(tl.uint32)
    return (bits > least) | ((bits == least) & before(tl.load(cut + 1), first, lanes, BLOCK))


@kernel
def variance(deltas, COUNT: tl.constexpr):
    """Return the variance of each element over COUNT task vectors."""
    # In the order of methods/sce.py: the mean first, then that of the squared differences, for equal bits.
    mean = deltas[0]
    for k in tl.static_range(1, COUNT):
        mean += deltas[k]
    mean = mean * (1.0 / COUNT)
    total = (deltas[0] - mean) * (deltas[0] - mean)
    for k in tl.static_range(1, COUNT):
        total += (deltas[k] - mean) * (deltas[k] - mean)
    return total * (1.0 / COUNT)


@kernel
def magnitudes(
    addresses, offsets, inside, CODES: tl.constexpr, COUNT: tl.constexpr, ALIGNED: tl.constexpr, TAIL: tl.constexpr
):
    """Return the magnitude bits at `offsets`, int32, of `Inputs` with these addresses."""
    base = load(tl.load(addresses), offsets, inside, CODES, 0, ALIGNED, TAIL)
    deltas = ()
    for k in tl.static_range(COUNT):
        deltas = deltas + (load(tl.load(addresses + 1 + k), offsets, inside, CODES, k + 1, ALIGNED, TAIL) - base,)
    return magnitude(deltas[0] if COUNT == 1 else variance(deltas, COUNT))


def magnitude_bits(inputs: Inputs, start: int, stop: int) -> torch.Tensor:
    """Return the magnitudes of the elements [start, stop) as float32 bits, int32, by torch operations."""
    base, *sources = (x.reshape(-1)[start:stop].float() for x in inputs)
    deltas = [source - base for source in sources]
    return (deltas[0] if len(deltas) == 1 else sce.variance(deltas)).abs_().view(torch.int32)


def fixed(bits: torch.Tensor, exponent: int) -> torch.Tensor:
    """Return magnitude bits in fixed point, int64, 0 if not finite; see `reductions.fixed_exponent`."""
    if exponent == INFINITE:
        return torch.zeros(bits.shape, dtype=torch.int64, device=bits.device)
    return (bits.contiguous().view(torch.float32).double() * 2.0**exponent).to(torch.int64)
