"""Sums: exact to float64's rounding, and the same bits for every thread count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mergesmith.merge_ops.numerics.reductions import (
    CHUNK,
    FIXED_BITS,
    INFINITE,
    chunked_sum,
    fixed_exponent,
    fixed_sum,
    gram_matrix,
    l1_ratio,
)

SIZES = (0, 1, 2, 3, 7, 1000, 1023, 4097, CHUNK, CHUNK + 1, 2 * CHUNK + 12345)


def noise(size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES)
def test_sums_equal_exact_ones(size: int) -> None:
    x, y = noise(size), noise(size, 1)
    products = (x.double() * y.double()).tolist()
    scale = math.fsum(abs(p) for p in products)
    assert chunked_sum([x, y], torch.mul) == pytest.approx(math.fsum(products), abs=1e-14 * scale + 1e-300)


def test_sums_of_whole_numbers_are_exact() -> None:
    x = torch.arange(-5, CHUNK + 1000, dtype=torch.float32)
    assert chunked_sum([x], torch.clone) == sum(range(-5, CHUNK + 1000))


def test_shape_and_dtype_of_the_input_do_not_matter() -> None:
    x = noise(60).bfloat16()
    assert fixed_sum(x.reshape(3, 4, 5), 20) == fixed_sum(x, 20) == fixed_sum(x.float(), 20)
    assert fixed_sum(torch.tensor(-2.5), 1) == 5


def test_threads_change_no_bit() -> None:
    x, y = noise(2 * CHUNK + 777), noise(2 * CHUNK + 777, 1)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append((chunked_sum([x, y], torch.mul).hex(), fixed_sum(x, 26)))
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


def test_cancellation_between_chunks_is_exact() -> None:
    x = torch.zeros(3 * CHUNK, dtype=torch.float64)
    x[0], x[CHUNK], x[2 * CHUNK] = 1e20, 1.0, -1e20
    assert chunked_sum([x], torch.clone) == 1.0


def test_gram_matrix() -> None:
    tensors = [noise(3000, seed).reshape(30, 100) for seed in range(3)]
    gram = gram_matrix(tensors)
    flat = np.stack([t.flatten().double().numpy() for t in tensors])
    assert gram.dtype == np.float64
    assert np.array_equal(gram, gram.T)
    np.testing.assert_allclose(gram, flat @ flat.T, rtol=1e-12)


@pytest.mark.parametrize("size", SIZES[1:])
def test_fixed_sums_are_close_to_the_l1_norm(size: int) -> None:
    x = noise(size)
    exponent = fixed_exponent(float(x.abs().max()))
    norm = math.fsum(x.double().abs().tolist())
    assert float(x.abs().max()) * 2.0**exponent < 2**FIXED_BITS
    assert norm - size * 2.0**-exponent <= fixed_sum(x, exponent) * 2.0**-exponent <= norm
    assert fixed_sum(x.flip(0), exponent) == fixed_sum(x, exponent)


def test_exponents_of_extreme_magnitudes() -> None:
    assert fixed_exponent(0.0) == FIXED_BITS
    assert fixed_exponent(1e-45) == 127
    assert fixed_exponent(3e38) == FIXED_BITS - 128
    assert fixed_exponent(math.inf) == fixed_exponent(math.nan) == INFINITE


def test_next_to_nothing_is_not_rescaled() -> None:
    assert l1_ratio(1 << 20, 1 << 19, 10) == 2.0
    assert l1_ratio(1 << 20, 0, 10) == 1.0
    assert l1_ratio(0, 0, 28) == 1.0
