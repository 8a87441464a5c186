"""DARE and DELLA over seeds: expectation and variance of their masks are those of independent draws."""

from __future__ import annotations

import math

import pytest
import torch
from plain_merge import merge, noise

from mergesmith.merge_ops.executors.reference import ranked_probability
from mergesmith.merge_ops.numerics.top_k import ranks

SEEDS = 400
ROWS, COLUMNS = 12, 25


def samples(method: str, delta: torch.Tensor, **numbers: float) -> torch.Tensor:
    """Masks over seeds, (SEEDS, *shape) float64: the merged task vector over the task vector, without rescale."""
    per_input = [{}, {"weight": 1.0, **numbers}]
    results = [
        merge(method, [torch.zeros_like(delta), delta], per_input, base=0, seed=seed, rescale=False, normalize=False)
        for seed in range(SEEDS)
    ]
    return torch.stack(results).double() / delta.double()


def check(masks: torch.Tensor, probability: torch.Tensor) -> None:
    """Mean and variance of every element and of the whole within five standard errors."""
    assert bool(((masks - masks.round()).abs() < 1e-6).all())
    mean, spread = masks.mean(dim=0), (probability * (1 - probability)).sqrt()
    assert float(((mean - probability).abs() / spread).max()) < 5 / math.sqrt(SEEDS)
    error = float((probability * (1 - probability)).sum().sqrt()) / math.sqrt(SEEDS)
    assert abs(float(mean.sum() - probability.sum())) < 5 * error
    # Independent elements: the variance of the number of kept ones is the sum of the elements' variances.
    kept = masks.flatten(1).sum(dim=1)
    assert float(kept.var()) == pytest.approx(
        float((probability * (1 - probability)).sum()), rel=5 * math.sqrt(2 / SEEDS)
    )


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare(method: str, density: float) -> None:
    delta = 0.1 + noise(1, ROWS, COLUMNS).abs()
    check(samples(method, delta, density=density), torch.full((ROWS, COLUMNS), density, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(ROWS, COLUMNS), (300,), (4, 25, 3)], ids=str)
@pytest.mark.parametrize("method", ["della", "della_linear"])
def test_della(method: str, shape: tuple[int, ...]) -> None:
    delta = 0.1 + noise(2, *shape).abs()
    along = min(1, delta.dim() - 1)
    order = delta.argsort(dim=along).argsort(dim=along).double()
    probability = 0.4 - 0.15 + order / (delta.shape[along] - 1) * 0.3
    check(samples(method, delta, density=0.4, epsilon=0.15), probability)


@pytest.mark.parametrize("method", ["dare_linear", "della_linear"])
def test_rescaling_keeps_the_l1_norm(method: str) -> None:
    delta = noise(3, 200, 100)
    per_input = [{}, {"weight": 1.0, "density": 0.3, "epsilon": 0.1}]
    merged = merge(method, [torch.zeros_like(delta), delta], per_input, base=0, normalize=False)
    assert float(merged.abs().sum()) == pytest.approx(float(delta.abs().sum()), rel=1e-5)


def test_larger_elements_stay_likelier() -> None:
    delta = torch.tensor([[3.0, -1.0, 2.0], [0.0, 5.0, -5.0]])
    expected = [[0.6, 0.4, 0.5], [0.4, 0.5, 0.6]]
    torch.testing.assert_close(ranked_probability(delta, 0.5, 0.1), torch.tensor(expected, dtype=torch.float64))
    assert ranked_probability(torch.ones(4, 1), 0.5, 0.1).tolist() == [[0.5]] * 4
    assert ranked_probability(torch.tensor(2.0), 0.5, 0.1).item() == 0.5


def test_ranks_run_along_dimension_1() -> None:
    values = noise(4, 3, 7, 2)
    assert torch.equal(ranks(values), values.abs().argsort(dim=1).argsort(dim=1))
    assert ranks(torch.tensor([-3.0, 1.0, 2.0, 1.0])).tolist() == [3, 0, 2, 1]
