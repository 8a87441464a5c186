"""The mask hash against its documented formula in plain integers, and what makes its masks random."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch

from mergesmith.merge_ops.executors.reference import execute
from mergesmith.merge_ops.methods import KeepRandom, MaskedSum, SourceRule
from mergesmith.merge_ops.numerics.random_masks import hash_bits, keep_mask, mask_key

CPU = torch.device("cpu")
NAME = "model.layers.0.mlp.up_proj.weight"
SIZE = 1 << 18
M32 = 0xFFFFFFFF

# Seed 0, NAME, position 0: the key, and hashes by element index.
PUBLISHED_KEY = (0xEE1C2B60, 0xD5F7A0C7)
PUBLISHED = {0: 0xC270B81C, 1: 0x5145D77E, 2**32: 0x115FD9EE}


def reference_key(seed: int, name: str, position: int) -> tuple[int, int]:
    text = b"mergesmith-mask-v1\0" + str(seed).encode() + b"\0" + name.encode() + b"\0" + str(position).encode()
    digest = hashlib.sha256(text).digest()
    return int.from_bytes(digest[0:4], "little"), int.from_bytes(digest[4:8], "little")


def reference_hash(key: tuple[int, int], index: int) -> int:
    """The docstring's formula, line by line."""
    k0, k1 = key
    lo, hi = index & M32, index >> 32
    x = lo ^ k0
    x ^= x >> 17
    x = x * 0xED5AD4BB & M32
    x = (x + k1 + hi * 0x9E3779B9) & M32
    x ^= x >> 11
    x = x * 0xAC4C1B51 & M32
    x ^= x >> 15
    x = x * 0x31848BAB & M32
    x ^= x >> 14
    return x


def unsigned(bits: torch.Tensor) -> list[int]:
    return [value & M32 for value in bits.tolist()]


def mask(probability: float, *, seed: int = 0, name: str = NAME, position: int = 0, count: int = SIZE) -> torch.Tensor:
    return keep_mask(mask_key(seed, name, position), probability, torch.Size([count]), CPU)


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.double(), other.double()]))[0, 1])


@pytest.mark.parametrize(
    ("seed", "name", "position"),
    [
        (0, NAME, 0),
        (1, NAME, 2),
        (-5, "lm_head.weight", 1),
        (2**70, "transformer.h.11.attn.c_attn.weight", 7),
        (0, "ü", 0),
    ],
)
def test_equals_the_documented_formula(seed: int, name: str, position: int) -> None:
    key = mask_key(seed, name, position)
    assert key == reference_key(seed, name, position)
    for start in (0, 1, 12345, 2**31 - 2, 2**32 - 5, 2**32, 3 * 2**32 + 7, 2**40 + 11):
        found = unsigned(hash_bits(key, start, 5, CPU))
        assert found == [reference_hash(key, start + i) for i in range(5)]


def test_published_vectors() -> None:
    key = mask_key(0, NAME, 0)
    assert key == PUBLISHED_KEY
    assert unsigned(hash_bits(key, 0, 1, CPU)) == [PUBLISHED[0]]
    assert unsigned(hash_bits(key, 1, 1, CPU)) == [PUBLISHED[1]]
    assert unsigned(hash_bits(key, 2**32, 1, CPU)) == [PUBLISHED[2**32]]


def test_any_subset_has_the_same_bits() -> None:
    key = mask_key(3, NAME, 1)
    whole = hash_bits(key, 0, 1000, CPU)
    for start, stop in ((0, 1), (1, 1000), (499, 501), (999, 1000)):
        assert torch.equal(hash_bits(key, start, stop - start, CPU), whole[start:stop])


def test_shape_does_not_matter() -> None:
    key = mask_key(3, NAME, 1)
    flat = keep_mask(key, 0.4, torch.Size([60]), CPU)
    assert torch.equal(keep_mask(key, 0.4, torch.Size([3, 4, 5]), CPU).flatten(), flat)
    assert keep_mask(key, 1.0, torch.Size([]), CPU).item() is True
    assert keep_mask(key, 0.5, torch.Size([0, 4]), CPU).shape == (0, 4)


def test_masks_do_not_change_where_the_work_is_cut() -> None:
    step = 1 << 24  # keep_mask works in pieces of this size
    key = mask_key(0, NAME, 0)
    kept = keep_mask(key, 0.5, torch.Size([step + 3]), CPU)[step - 2 :]
    assert kept.tolist() == [reference_hash(key, i) >> 16 < 32768 for i in range(step - 2, step + 3)]


def test_a_range_across_the_high_word_is_refused() -> None:
    with pytest.raises(ValueError, match="cross a multiple"):
        hash_bits((1, 2), 2**32 - 1, 2, CPU)


@pytest.mark.parametrize("probability", [0.001, 0.05, 0.1, 0.3, 0.5, 0.77, 0.999])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_kept_is_the_probability(probability: float, seed: int) -> None:
    exact = round(65536 * probability) / 65536
    sigma = math.sqrt(SIZE * exact * (1 - exact))
    assert abs(int(mask(probability, seed=seed).sum()) - SIZE * exact) < 4 * sigma


def test_the_ends_are_exact() -> None:
    assert not mask(0.0).any()
    assert mask(1.0).all()


def test_masks_of_growing_density_are_nested() -> None:
    small, large = mask(0.2), mask(0.6)
    assert bool((small <= large).all())
    assert int(small.sum()) < int(large.sum())


# Correlations of independent masks have a spread of 1 / sqrt(SIZE); 4.5 of them is a chance of 1 in 150,000.
BOUND = 4.5 / math.sqrt(SIZE)


@pytest.mark.parametrize("probability", [0.1, 0.5])
@pytest.mark.parametrize("lag", [1, 2, 3, 32, 1024])
def test_neighbours_are_independent(probability: float, lag: int) -> None:
    kept = mask(probability)
    assert abs(correlation(kept[:-lag], kept[lag:])) < BOUND


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_sources_tensors_and_seeds_are_independent(probability: float) -> None:
    first = mask(probability)
    others = [mask(probability, position=i) for i in (1, 2, 3)]
    others += [mask(probability, name=NAME.replace("0", str(i))) for i in (1, 2, 3)]
    others += [mask(probability, seed=i) for i in (1, 2, 3)]
    for other in others:
        assert abs(correlation(first, other)) < BOUND


def test_all_values_are_equally_frequent() -> None:
    top = torch.tensor([value >> 24 for value in unsigned(hash_bits(mask_key(0, NAME, 0), 0, 65536, CPU))])
    counts = torch.bincount(top, minlength=256).double()
    chi_square = float(((counts - 256) ** 2 / 256).sum())
    assert 170 < chi_square < 350  # 255 degrees of freedom: mean 255, spread 22.6


def dare(delta: torch.Tensor, density: float, seed: int) -> torch.Tensor:
    plan = MaskedSum((SourceRule(1.0, KeepRandom(density), rescale=True),))
    return execute(plan, [torch.zeros_like(delta), delta], base=0, seed=seed, name=NAME)


@pytest.mark.parametrize("density", [0.2, 0.7])
def test_dare_is_unbiased_with_bernoulli_variance(density: float) -> None:
    """Over seeds the mean is the task vector and the variance d^2 (1-p) / p.

    The L1 rescale divides by the share that was in fact kept, which moves both by O(1/n) only when magnitudes are
    equal; equal magnitudes of mixed sign make the law exact enough to test.
    """
    seeds, size = 400, 2000
    delta = torch.where(torch.arange(size) % 3 == 0, -0.25, 0.25)
    runs = torch.stack([dare(delta, density, seed) for seed in range(seeds)]).double()
    variance = 0.0625 * (1 - density) / density
    mean_error = (runs.mean(0) - delta) / math.sqrt(variance / seeds)
    assert abs(float(mean_error.mean())) < 4.5 / math.sqrt(size)
    assert float(mean_error.abs().max()) < 5.5
    assert abs(float((mean_error**2).mean()) - 1) < 0.2
    assert abs(float(runs.var(0).mean()) / variance - 1) < 0.02


def test_dare_keeps_the_l1_norm() -> None:
    delta = torch.randn(5000, generator=torch.Generator().manual_seed(1))
    for seed in range(5):
        merged = dare(delta, 0.3, seed)
        assert float(merged.double().abs().sum()) == pytest.approx(float(delta.double().abs().sum()), rel=1e-6)
        kept = merged != 0
        assert 0.25 < float(kept.float().mean()) < 0.35
        factor = merged[kept] / delta[kept]
        assert float(factor.max() - factor.min()) < 1e-5
