"""A Gaussian process of the gold answers' loss over the merge weights, fitted to its values and its derivatives.

A probe gives the loss and its derivative by every weight, so a few probes describe the loss around them far better than
as many scores would; each sees other items, and the process averages over them. Derivatives of a process are Gaussian
too, with the derivatives of the kernel as covariances (Rasmussen and Williams 2006, Gaussian Processes for Machine
Learning, section 9.4). The kernel is the squared exponential one, k(a, b) = s^2 l^2 exp(-|a - b|^2 / 2 l^2), so s^2 is
the prior variance of a derivative. Weights are scaled first: one whose derivative is small is measured in larger units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

MOST_ROWS = 1200  # values and derivatives that a process is fitted to; those of the latest probes
LEAST_PROBES = 4  # that are kept, however many weights there are
LENGTHS = (0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.2)  # of l, in scaled weights
NOISES = (0.01, 0.03, 0.1, 0.3, 1.0)  # variance of a derivative's error over the items, as a share of its mean square
SIGNALS = (0.5, 1.0, 2.0, 4.0)  # of s^2, as a share of the mean square of the derivatives
# Priors of the three, log-normal: the most likely value and the standard deviation of the logarithm.
PRIOR_LENGTH, PRIOR_NOISE, PRIOR_SIGNAL = (1.2, 0.6), (0.1, 1.2), (1.0, 1.0)
MOST_SCALE = 4.0  # the scale of a weight is between 1 / MOST_SCALE and MOST_SCALE
MEAN_VARIANCE = 0.1  # prior variance of the loss's mean; losses are between 0 and 1
JITTER = 1e-10


@dataclass(frozen=True)
class Probes:
    """The results of n probes in d weights.

    Attributes:
        points: (n, d) weights.
        losses: (n,) losses.
        loss_errors: (n,) standard errors of the losses over items.
        slopes: (n, d) derivatives of the loss.
        slope_errors: (n, d) standard errors of the derivatives over items; only their proportions are used.
    """

    points: np.ndarray
    losses: np.ndarray
    loss_errors: np.ndarray
    slopes: np.ndarray
    slope_errors: np.ndarray

    def latest(self) -> Probes:
        """Return as many of the latest probes as a process is fitted to."""
        kept = slice(-max(LEAST_PROBES, MOST_ROWS // (self.points.shape[1] + 1)), None)
        return Probes(*(a[kept] for a in (self.points, self.losses, self.loss_errors, self.slopes, self.slope_errors)))


class LossSurface:
    """The process. Its lengths, noises and signals are the most likely ones of the tables above."""

    def __init__(self, probes: Probes) -> None:
        probes = probes.latest()
        self.scales = _scales(probes.slopes)
        self.points = probes.points / self.scales
        slopes = probes.slopes * self.scales
        self._rows = np.concatenate([(probes.losses - probes.losses.mean())[:, None], slopes], axis=1).ravel()
        square = max(float((slopes**2).mean()), 1e-12)
        errors = np.maximum((probes.slope_errors * self.scales) ** 2, 1e-16)
        self._noises = square * errors / errors.mean()
        self._loss_noises, self._square = probes.loss_errors**2, square
        self._fit()

    def minimum(self, low: np.ndarray, high: np.ndarray, radius: float) -> np.ndarray:
        """Return the weights of the lowest expected loss, (d,), no farther than `radius` from some probe per weight.

        `low`, `high`: (d,) bounds of the weights. `radius` is in scaled weights.
        """
        found = (
            minimize(
                self._loss_and_slopes,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=list(zip(*self._box(start, low, high, radius), strict=True)),
            )
            for start in self.points
        )
        return min(found, key=lambda result: float(result.fun)).x * self.scales

    def _box(self, start: np.ndarray, low: np.ndarray, high: np.ndarray, radius: float) -> np.ndarray:
        """Return the least and the largest weights near a scaled point, (2, d); the point is always between them."""
        least = np.minimum(np.maximum(start - radius, low / self.scales), start)
        return np.array([least, np.maximum(np.minimum(start + radius, high / self.scales), start)])

    def _loss_and_slopes(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the expected loss less its mean, and its derivatives, (d,), at a scaled point."""
        found = self._signal * (_covariance(point[None], self.points, self.length) @ self._weights)
        return float(found[0]), found[1:]

    def _fit(self) -> None:
        """Climb the tables one step at a time, from the most likely values of the priors to those of the posterior."""
        place = (LENGTHS.index(1.0), NOISES.index(0.1), SIGNALS.index(1.0))
        known = {place: self._evidence(place)}
        while True:
            known |= {near: self._evidence(near) for near in _neighbours(place) if near not in known}
            best = max((place, *_neighbours(place)), key=lambda p: known[p][0])
            if best == place:
                break
            place = best
        self._weights = known[place][1]
        self.length, self._signal = LENGTHS[place[0]], self._square * SIGNALS[place[2]]

    def _evidence(self, place: tuple[int, int, int]) -> tuple[float, np.ndarray]:
        """Return the logarithm of the posterior at a place of the tables, and the process's weights there."""
        length, noise, signal = LENGTHS[place[0]], NOISES[place[1]], SIGNALS[place[2]]
        is_loss = np.zeros((len(self.points), self.points.shape[1] + 1))
        is_loss[:, 0] = 1.0
        diagonal = np.concatenate([self._loss_noises[:, None], noise * self._noises], axis=1).ravel()
        covariance = signal * self._square * _covariance(self.points, self.points, length)
        covariance += MEAN_VARIANCE * np.outer(is_loss, is_loss)
        covariance[np.diag_indices_from(covariance)] += diagonal + JITTER
        factor = cho_factor(covariance, lower=True)
        weights = cho_solve(factor, self._rows)
        likelihood = -0.5 * float(self._rows @ weights) - float(np.log(np.diag(factor[0])).sum())
        priors = ((length, *PRIOR_LENGTH), (noise, *PRIOR_NOISE), (signal, *PRIOR_SIGNAL))
        return likelihood - 0.5 * sum((math.log(value / mode) / spread) ** 2 for value, mode, spread in priors), weights


def _covariance(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """Return the covariances of value and derivatives at points a, (n, d), and b, (m, d), for s^2 = 1.

    The shape is (n (d + 1), m (d + 1)); of each point the value comes first.
    """
    (n, d), m = a.shape, len(b)
    gaps = a[:, None] - b[None]
    kernel = np.exp(-0.5 * (gaps**2).sum(axis=-1) / length**2)
    found = np.empty((n, d + 1, m, d + 1))
    found[:, 0, :, 0] = length**2 * kernel
    found[:, 0, :, 1:] = kernel[..., None] * gaps
    found[:, 1:, :, 0] = -(kernel[..., None] * gaps).transpose(0, 2, 1)
    outer = gaps[..., :, None] * gaps[..., None, :] / length**2
    found[:, 1:, :, 1:] = ((np.eye(d) - outer) * kernel[..., None, None]).transpose(0, 2, 1, 3)
    return found.reshape(n * (d + 1), m * (d + 1))


def _scales(slopes: np.ndarray) -> np.ndarray:
    """Return the unit of every weight, (d,): as a task vector gets longer, so do its weight's derivatives."""
    scales = 1 / (np.sqrt((slopes**2).mean(axis=0)) + 1e-9)
    return np.clip(scales / np.exp(np.log(scales).mean()), 1 / MOST_SCALE, MOST_SCALE)


def _neighbours(place: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """Yield the places of the tables one step away."""
    for axis, table in enumerate((LENGTHS, NOISES, SIGNALS)):
        for step in (-1, 1):
            if 0 <= place[axis] + step < len(table):
                yield (*place[:axis], place[axis] + step, *place[axis + 1 :])  # type: ignore[misc]
