"""A Gaussian process over the unit cube of one arm, with a known standard error per observation, built on BoTorch.

Kernel: Matérn 5/2 with a length scale per axis, whose log-normal prior grows with the number of axes (Hvarfner et al.
2024, arXiv:2402.02229). Acquisition: logarithm of the noisy expected improvement (Letham et al. 2019,
arXiv:1706.07094; Ament et al. 2023, arXiv:2310.20708).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

MOST_POINTS = 120  # observations that a process is fitted to: the best ones and the latest
RESTARTS, RAW_SAMPLES, DRAWS = 3, 64, 64
LEAST_ERROR = 1e-3  # lower bound on standard errors, which are estimates from few items themselves


@dataclass(frozen=True)
class Data:
    """Observations of one arm.

    Attributes:
        points: (n, d) in the unit cube.
        values: (n,), maximized.
        errors: (n,) standard errors of the values.
    """

    points: np.ndarray
    values: np.ndarray
    errors: np.ndarray

    def reduced(self) -> Data:
        """Keep at most MOST_POINTS observations: half the best, half the latest."""
        if len(self.values) <= MOST_POINTS:
            return self
        best = np.argsort(-self.values, kind="stable")[: MOST_POINTS // 2]
        latest = [i for i in range(len(self.values) - 1, -1, -1) if i not in set(best.tolist())]
        keep = np.sort(np.array([*best, *latest[: MOST_POINTS - len(best)]]))
        return Data(self.points[keep], self.values[keep], self.errors[keep])


class GaussianProcess:
    """A process fitted to the observations of one arm; everything random follows from `seed`."""

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

    def propose(self, pending: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the most promising point, (d,), and the logarithm of its noisy expected improvement.

        `pending`: (m, d), points that are being scored.
        """
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.optim import optimize_acqf
        from botorch.sampling import SobolQMCNormalSampler

        size = self.data.points.shape[1]
        with _seeded(self.seed):
            acquisition = qLogNoisyExpectedImprovement(
                self._model,
                X_baseline=_tensor(self.data.points),
                X_pending=_tensor(pending) if len(pending) else None,
                sampler=SobolQMCNormalSampler(torch.Size([DRAWS]), seed=self.seed),
                prune_baseline=True,
            )
            bounds = torch.stack([torch.zeros(size), torch.ones(size)]).double()
            point, value = optimize_acqf(  # type: ignore[misc]
                acquisition,
                bounds,
                q=1,
                num_restarts=RESTARTS,
                raw_samples=RAW_SAMPLES,
                options={"maxiter": 40, "sample_around_best": True, "seed": self.seed},
            )
        return point[0].numpy(), value.item() + float(np.log(self.scale))  # type: ignore[union-attr]

    def gain(self, reference: np.ndarray, threshold: float, *, candidates: int = 512, draws: int = 256) -> float:
        """Return the largest probability, over candidates, of beating `reference`, (d,), by more than `threshold`.

        The candidates are Sobol points of the cube and perturbations of the best observations. The probability is
        estimated from draws of the joint posterior of each candidate and the reference.
        """
        size = self.data.points.shape[1]
        with _seeded(self.seed), torch.no_grad():
            engine = torch.quasirandom.SobolEngine(size, scramble=True, seed=self.seed)
            spread = engine.draw(candidates // 2).double()
            order = np.argsort(-self.data.values, kind="stable")[: max(1, len(self.data.values) // 4)]
            near = _tensor(self.data.points[order])[torch.randint(len(order), (candidates // 2,))]
            near = (near + 0.1 * torch.randn_like(near)).clamp(0, 1)
            x = torch.cat([_tensor(reference[None]), spread, near])
            samples = self._model.posterior(x).rsample(torch.Size([draws])).squeeze(-1) * self.scale
        return float((samples[:, 1:] - samples[:, :1] > threshold).double().mean(0).max())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers inside, and hide BoTorch's warnings about its fits."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)
