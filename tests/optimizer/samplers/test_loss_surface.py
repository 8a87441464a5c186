"""The process over the gold answers' loss: its covariances, and the lowest point that it finds from few probes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mergesmith.optimizer.samplers.loss_surface import MOST_ROWS, LossSurface, Probes, _covariance

BOWL = np.array([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.02]])  # curvatures differ by a factor of 50
LOWEST = np.array([0.4, 0.9, 1.6])
FREE = (np.full(3, -np.inf), np.full(3, np.inf))


def bowl(point: np.ndarray) -> tuple[float, np.ndarray]:
    """A quadratic loss and its derivatives."""
    gap = point - LOWEST
    return 0.2 + float(gap @ BOWL @ gap) / 2, BOWL @ gap


Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def probes(points: np.ndarray, loss: Loss = bowl, noise: float = 0.0) -> Probes:
    """Probes at points, (n, d), whose derivatives have errors of the given size."""
    rng = np.random.default_rng(0)
    values, slopes = zip(*map(loss, points), strict=True)
    errors = np.full(points.shape, 0.01 + noise)
    noisy = np.array(slopes) + noise * rng.standard_normal(points.shape)
    return Probes(points, np.array(values), np.full(len(points), 0.02), noisy, errors)


def descended(steps: int, noise: float = 0.0, radius: float = 0.35) -> np.ndarray:
    """The point after some steps from equal weights."""
    points = [np.full(3, 0.5)]
    for _ in range(steps):
        points.append(LossSurface(probes(np.array(points), noise=noise)).minimum(*FREE, radius))
    return points[-1]


def test_covariances_are_the_derivatives_of_the_kernel() -> None:
    rng = np.random.default_rng(1)
    a, b, step = rng.random((1, 3)), rng.random((1, 3)), 1e-5

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return 0.7**2 * np.exp(-0.5 * ((x - y) ** 2).sum() / 0.7**2)

    found = _covariance(a, b, 0.7)
    moves = step * np.eye(3)
    assert found[0, 0] == pytest.approx(kernel(a, b))
    for i in range(3):
        by_a = (kernel(a + moves[i], b) - kernel(a - moves[i], b)) / (2 * step)
        by_b = (kernel(a, b + moves[i]) - kernel(a, b - moves[i])) / (2 * step)
        assert found[1 + i, 0] == pytest.approx(by_a, rel=1e-6)
        assert found[0, 1 + i] == pytest.approx(by_b, rel=1e-6)
        for j in range(3):
            values = [kernel(a + s * moves[i], b + t * moves[j]) * s * t for s in (-1, 1) for t in (-1, 1)]
            assert found[1 + i, 1 + j] == pytest.approx(sum(values) / (2 * step) ** 2, abs=1e-4)


def test_covariances_of_many_points_are_symmetric_and_positive() -> None:
    points = np.random.default_rng(2).random((6, 4))
    found = _covariance(points, points, 0.5)
    assert np.allclose(found, found.T)
    assert np.linalg.eigvalsh(found).min() > -1e-9


def test_the_lowest_point_is_found_in_few_steps() -> None:
    loss = bowl(descended(10))[0]
    assert loss - 0.2 < 0.02 * (bowl(np.full(3, 0.5))[0] - 0.2)


def test_noise_is_averaged() -> None:
    assert bowl(descended(14, noise=0.05))[0] - 0.2 < 0.2 * (bowl(np.full(3, 0.5))[0] - 0.2)


def test_a_step_keeps_within_radius_and_bounds() -> None:
    start = np.full((1, 3), 0.5)
    surface = LossSurface(probes(start))
    low, high = np.array([0.45, 0.0, 0.0]), np.array([3.0, 0.55, 3.0])
    step = surface.minimum(low, high, 0.2)
    assert np.all(np.abs(step - start[0]) / surface.scales <= 0.2 + 1e-9)
    assert np.all((low - 1e-9 <= step) & (step <= high + 1e-9))
    assert step[2] > 0.5  # downhill


def test_a_start_beyond_the_bounds_is_no_error() -> None:
    step = LossSurface(probes(np.full((1, 3), 2.0))).minimum(np.zeros(3), np.ones(3), 0.35)
    assert np.all(np.isfinite(step)) and np.all(step <= 2.0)


def test_equal_losses_without_slopes_stay_where_they_are() -> None:
    points = np.array([[0.5, 0.5], [0.7, 0.2]])
    flat = probes(points, lambda point: (0.3, np.zeros(2)))
    step = LossSurface(flat).minimum(np.zeros(2), np.ones(2), 0.35)
    assert np.all(np.isfinite(step))


def test_only_the_latest_probes_count_if_there_are_many_weights() -> None:
    d = MOST_ROWS // 2
    found = probes(np.random.default_rng(3).random((9, d)), lambda point: (0.3, point)).latest()
    assert found.points.shape == (4, d)
