"""A Gaussian process over the features of a group of arms that knows the standard error of every observation.

Kernel: Matérn 5/2 with a length scale per feature, whose log-normal prior grows with the number of features (Hvarfner
et al. 2024, arXiv:2402.02229); BoTorch fits it. Acquisition: noisy expected improvement (Letham et al. 2019,
arXiv:1706.07094) by joint draws of the values at known points and at a finite set of candidates.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

MOST_POINTS = 120  # observations that a process is fitted to: the best ones and the latest
MOST_RIVALS = 24  # known points whose best value a candidate has to exceed
DRAWS = 128
LEAST_ERROR = 1e-3  # standard errors below this are taken to be this: no score is known better


@dataclass(frozen=True)
class Data:
    """Observations of one group.

    Attributes:
        points: (n, d) features.
        values: (n,), maximized.
        errors: (n,) standard errors of the values.
    """

    points: np.ndarray
    values: np.ndarray
    errors: np.ndarray

    def reduced(self) -> Data:
        """Return at most MOST_POINTS observations: half the best, half the latest."""
        if len(self.values) <= MOST_POINTS:
            return self
        best = np.argsort(-self.values, kind="stable")[: MOST_POINTS // 2]
        latest = [i for i in range(len(self.values) - 1, -1, -1) if i not in set(best.tolist())]
        keep = np.sort(np.array([*best, *latest[: MOST_POINTS - len(best)]]))
        return Data(self.points[keep], self.values[keep], self.errors[keep])


class GaussianProcess:
    """A process fitted to the observations of one group; everything random follows from `seed`."""

    def __init__(self, data: Data, seed: int) -> None:
        self.data, self.seed = data.reduced(), seed
        self.scale = max(float(np.std(self.data.values)), LEAST_ERROR)
        self.middle = float(np.mean(self.data.values))
        with _seeded(seed):
            self._model = self._fit()

    def _fit(self) -> Any:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
        from gpytorch.mlls import ExactMarginalLogLikelihood

        x = _tensor(self.data.points)
        y = _tensor((self.data.values - self.middle) / self.scale).unsqueeze(-1)
        noise = _tensor(np.maximum(self.data.errors, LEAST_ERROR) / self.scale).unsqueeze(-1) ** 2
        kernel = get_covar_module_with_dim_scaled_prior(ard_num_dims=x.shape[1], use_rbf_kernel=False)
        model = SingleTaskGP(x, y, train_Yvar=noise, covar_module=kernel, outcome_transform=None)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return model

    def means(self, points: np.ndarray) -> np.ndarray:
        """Return the expected values at points, (m, d) -> (m,)."""
        with torch.no_grad():
            return self._model.posterior(_tensor(points)).mean.squeeze(-1).numpy() * self.scale + self.middle

    def improvements(self, points: np.ndarray, pending: np.ndarray, level: float = -np.inf) -> np.ndarray:
        """Return the expected improvement at points, (m, d) -> (m,), over the best known or pending point.

        `pending`: (k, d), points that are being scored; `level`: a value that has to be exceeded, too.
        """
        known = np.concatenate([self._rivals(), pending])
        draws = self._draws(np.concatenate([known, points]))
        best = np.maximum(draws[:, : len(known)].max(axis=1, keepdims=True), level)
        return np.maximum(draws[:, len(known) :] - best, 0.0).mean(axis=0)

    def gains(self, points: np.ndarray, threshold: float, level: float = -np.inf) -> np.ndarray:
        """Return the probabilities, (m, d) -> (m,), to exceed the best known point and `level` by a threshold."""
        with torch.no_grad():
            posterior = self._model.posterior(_tensor(np.concatenate([self._rivals()[:1], points])))
            mean = posterior.mean.squeeze(-1).numpy() * self.scale + self.middle
            covariance = posterior.distribution.covariance_matrix.numpy() * self.scale**2
        variances = np.diag(covariance)
        spread = np.sqrt(np.maximum(variances[1:] + variances[0] - 2 * covariance[0, 1:], 1e-12))
        return norm.sf((max(float(mean[0]), level) + threshold - mean[1:]) / spread)

    def _rivals(self) -> np.ndarray:
        """Return the known points that may be the best, in the order of their expected values."""
        order = np.argsort(-self.means(self.data.points), kind="stable")
        return self.data.points[order[:MOST_RIVALS]]

    def _draws(self, points: np.ndarray) -> np.ndarray:
        """Draw the values at points together, (m, d) -> (DRAWS, m)."""
        with _seeded(self.seed), torch.no_grad():
            samples = self._model.posterior(_tensor(points)).rsample(torch.Size([DRAWS])).squeeze(-1)
        return samples.numpy() * self.scale + self.middle


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Inside, torch draws from a seed, and BoTorch's comments on its fits are not shown."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)
