"""Random masks from a counter-based hash: the same bits on every device, in any order and for any subset of tensors.

The key of a tensor is the first 8 bytes (little-endian: k0, k1) of SHA-256 over

    "mergesmith-mask-v1" 00 seed (decimal) 00 output tensor's checkpoint name 00 position among the non-base sources

and element i (row-major index in the checkpoint's layout; lo, hi its 32-bit halves) has the 32-bit hash

    x = lo ^ k0;                       x ^= x >> 17;  x *= 0xED5AD4BB
    x += k1 + hi * 0x9E3779B9;         x ^= x >> 11;  x *= 0xAC4C1B51
                                       x ^= x >> 15;  x *= 0x31848BAB
                                       x ^= x >> 14

in wrapping 32-bit integers. The multipliers and shifts are those of Wellons's triple32 (public domain,
https://nullprogram.com/blog/2018/07/31/); the second key word is added between its rounds. An element is kept with
probability p when the top 16 bits of its hash are below round(65536 p). Test vectors:
tests/merge_ops/numerics/test_random_masks.py.
"""

from __future__ import annotations

import hashlib

import torch

DOMAIN = "mergesmith-mask-v1"
LEVELS = 1 << 16  # a probability is a multiple of 1/LEVELS
# The constants of the hash, in the order of its rounds.
SHIFTS = (17, 11, 15, 14)
FACTORS = (0xED5AD4BB, 0xAC4C1B51, 0x31848BAB)
HIGH_FACTOR = 0x9E3779B9  # multiplies the high half of an element's index


def _signed(value: int) -> int:
    """Return the int32 that has the lowest 32 bits of `value`."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def mask_key(seed: int, tensor_name: str, position: int) -> tuple[int, int]:
    """Return the two 32-bit key words of the mask of one source for one output tensor."""
    text = "\0".join((DOMAIN, str(seed), tensor_name, str(position)))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def hash_bits(key: tuple[int, int], start: int, count: int, device: torch.device) -> torch.Tensor:
    """Return hashes of the elements [start, start + count) as int32 bit patterns, shape (count,).

    Raises:
        ValueError: the range crosses a multiple of 2**32.
    """
    low, high = start & 0xFFFFFFFF, start >> 32
    if low + count > 1 << 32:
        raise ValueError(f"elements [{start}, {start + count}) cross a multiple of 2**32")
    x = torch.arange(low, low + count, dtype=torch.int64, device=device).to(torch.int32)
    x ^= _signed(key[0])
    for added, shift, factor in zip((0, key[1] + high * HIGH_FACTOR, 0), SHIFTS, FACTORS, strict=False):
        x += _signed(added)
        x ^= _shifted(x, shift)
        x *= _signed(factor)
    x ^= _shifted(x, SHIFTS[-1])
    return x


def _shifted(x: torch.Tensor, bits: int) -> torch.Tensor:
    # `>>` of int32 extends the sign bit; the mask clears the copies, as a shift of an unsigned integer would.
    return (x >> bits) & ((1 << (32 - bits)) - 1)


def keep_mask(
    key: tuple[int, int], probability: float | torch.Tensor, shape: torch.Size, device: torch.device
) -> torch.Tensor:
    """Return a boolean mask of `shape` whose elements are True with `probability`, rounded to a multiple of 1/65536.

    `probability` may be a float64 tensor of that shape, with one probability per element.
    """
    if isinstance(probability, torch.Tensor):
        thresholds = torch.round(LEVELS * probability.reshape(-1)).to(torch.int32)
    else:
        thresholds = torch.tensor([round(LEVELS * probability)], dtype=torch.int32, device=device)
    count = shape.numel()
    mask = torch.empty(count, dtype=torch.bool, device=device)
    step = 1 << 24  # bounds the memory for hashes; divides 2**32
    for start in range(0, count, step):
        stop = min(count, start + step)
        top = _shifted(hash_bits(key, start, stop - start, device), 16)
        torch.lt(top, thresholds[start:stop] if len(thresholds) > 1 else thresholds, out=mask[start:stop])
    return mask.reshape(shape)
