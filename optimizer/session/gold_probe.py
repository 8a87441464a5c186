"""Computes the loss of the gold answers at a point of the search space, and its slopes in the merge weights."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ...evaluators import ScoringError
from ...merge_ops import ModelBank, WeightGradient, plan_merge
from ...search_spaces import METHOD, Params, SearchSpace, WeightJacobian
from ..proposal import Proposal, Slopes
from .live_candidate import LiveCandidate

ITEMS = 160  # of the search part per probe, each task in proportion; all of them if there are no more
TOKENS = 1024  # per micro-batch: small enough for several, between which the standard errors are estimated
FORM = "margin"  # the loss that follows the metrics most closely; see `evaluators/gold/losses.py`


class GoldProbe:
    """Probes points of `space`; `candidate` holds the live model and the tasks."""

    def __init__(self, space: SearchSpace, bank: ModelBank, candidate: LiveCandidate) -> None:
        self.space, self.bank, self.candidate = space, bank, candidate
        self._jacobians: dict[str, WeightJacobian] = {}

    def run(self, proposal: Proposal) -> Slopes:
        """Merge the point, and compute the loss, with its slopes if the proposal asks for the gradient.

        Raises:
            ScoringError: no item has a gold answer.
            NoWeightDerivativeError: the method's weights have no derivative.
        """
        recipe = self.space.recipe(proposal.params)
        model = self.candidate.load(recipe)
        gold = self._gold
        if not gold.batches:
            raise ScoringError(f"no item has a gold answer: {gold.missing}")
        if proposal.probe == "loss":
            with torch.no_grad():
                return _summary([(b.losses(model, FORM), b.weights, {}) for b in gold.batches])
        parts = []
        jacobian = self._jacobian(proposal.params)
        with WeightGradient(self.candidate.live, plan_merge(recipe, self.bank)) as gradient:
            for batch in gold.batches:
                losses = batch.losses(model, FORM)
                (losses * batch.weights).sum().backward()
                parts.append((losses.detach(), batch.weights, jacobian.slopes(gradient.take())))
        return _summary(parts)

    def _jacobian(self, params: Params) -> WeightJacobian:
        method = str(params[METHOD])
        if method not in self._jacobians:
            self._jacobians[method] = WeightJacobian.of(self.space, params, self.bank)
        return self._jacobians[method]

    @cached_property
    def _gold(self) -> Any:
        """The losses of the first search items of every task, in proportion. All probes see the same items."""
        items: dict[str, list[int]] = {}
        for block in self.candidate.suite.blocks("search"):
            for leaf, ids in block.items.items():
                items.setdefault(leaf, []).extend(ids)
        total = sum(map(len, items.values()))
        first = {leaf: ids[: math.ceil(ITEMS * len(ids) / total)] for leaf, ids in items.items()}
        return self.candidate.suite.gold_losses(self.candidate.live.model, first, tokens=TOKENS)


def _summary(parts: list[tuple[torch.Tensor, torch.Tensor, dict[str, float]]]) -> Slopes:
    """Combine micro-batches: (losses, weights, slopes of their weighted sum)."""
    losses = torch.cat([part[0] for part in parts]).double()
    weights = torch.cat([part[1] for part in parts]).double().to(losses.device)
    loss = float((losses * weights).sum())
    stderr = float(((weights * (losses - loss)) ** 2).sum().sqrt())
    names = list(parts[0][2])
    shares = np.array([float(part[1].sum()) for part in parts])
    slopes = np.array([[part[2][name] for name in names] for part in parts]).reshape(len(parts), len(names))
    total = slopes.sum(0)
    spread = ((slopes - shares[:, None] * total) ** 2).sum(0) * len(parts) / max(1, len(parts) - 1)
    errors = np.sqrt(spread) if len(parts) > 1 else np.abs(total)
    return Slopes(
        loss,
        stderr,
        len(losses),
        dict(zip(names, total.tolist(), strict=True)),
        dict(zip(names, errors.tolist(), strict=True)),
    )
