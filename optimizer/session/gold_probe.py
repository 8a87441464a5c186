"""The loss of the gold answers at a point of the search space, and its derivatives by the merge weights."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ...evaluators import ScoringError
from ...merge_ops import ModelBank, WeightGradient, plan_merge
from ...search_spaces import METHOD, Params, SearchSpace, WeightJacobian
from ..proposal import Proposal, Slopes
from .live_candidate import LiveCandidate

ITEMS = 160  # search items per probe, with each task in proportion; all items if there are fewer
TOKENS = 1024  # per micro-batch: small enough that there are several, from which standard errors are estimated
FORM = "margin"  # the loss that follows the metrics most closely; see `evaluators/gold/loss_forms.py`
# Decimals of a result. The last bits of sums depend on where an array is in memory, so they differ between processes,
# and a resumed search would continue from other weights. Losses are at most 1, and weights are near 1.
DECIMALS = 10
KEPT = 16  # windows of items whose batches are cached


class GoldProbe:
    """Computes probes of points of `space`; `candidate` holds the live model and the tasks."""

    def __init__(self, space: SearchSpace, bank: ModelBank, candidate: LiveCandidate) -> None:
        self.space, self.bank, self.candidate = space, bank, candidate
        self._gold = lru_cache(KEPT)(self._gold_losses)
        self._jacobians: dict[str, WeightJacobian] = {}

    def run(self, proposal: Proposal) -> Slopes:
        """Merge the point and compute the loss; also its derivatives, if the proposal asks for the gradient.

        Raises:
            ScoringError: no item has a gold answer.
            NoWeightDerivativeError: the method's weights have no derivative.
        """
        recipe = self.space.recipe(proposal.params)
        model = self.candidate.load(recipe)
        gold = self._gold(proposal.offset)
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

    def _gold_losses(self, offset: int) -> Any:
        """Return the losses of one window of the search items, which wraps around at the end of each task."""
        suite, items = self.candidate.suite, dict[str, list[int]]()
        weighted = {leaf.name for entry in suite.entries if entry.weight > 0 for leaf in entry.leaves}
        for block in suite.blocks("search"):
            for leaf, ids in block.items.items():
                if leaf in weighted:
                    items.setdefault(leaf, []).extend(ids)
        total = sum(map(len, items.values()))
        window = {leaf: _window(ids, math.ceil(ITEMS * len(ids) / total), offset) for leaf, ids in items.items()}
        return suite.gold_losses(self.candidate.live.model, window, tokens=TOKENS)


def _window(ids: list[int], size: int, offset: int) -> list[int]:
    """Return `size` ids, beginning where the window of the offset before ends."""
    if size >= len(ids):
        return ids
    start = offset * size % len(ids)
    return [*ids[start : start + size], *ids[: max(0, start + size - len(ids))]]


def _summary(parts: list[tuple[torch.Tensor, torch.Tensor, dict[str, float]]]) -> Slopes:
    """Combine micro-batches, each (losses, weights, derivatives of their weighted sum)."""
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
        round(loss, DECIMALS),
        round(stderr, DECIMALS),
        len(losses),
        dict(zip(names, total.round(DECIMALS).tolist(), strict=True)),
        dict(zip(names, errors.round(DECIMALS).tolist(), strict=True)),
    )
