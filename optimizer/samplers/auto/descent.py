"""Stage `descent`: steps against the gradient of the gold answers' loss in all weights at once.

A merge of task vectors is linear in its weights, theta(w) = theta_0 + sum_k w_k m_k tau_k, so one backward pass gives
dL/dw_k = <dL/dtheta, m_k tau_k> for every model, knot and filter (as AdaMerging, Yang et al. 2023, arXiv:2310.02575,
and SuperMerge, arXiv:2412.10416, learn them). A step costs three forward passes per item, whatever the number of
weights. The steps only propose: every ROUND of them ends in a candidate that is scored by the tasks' metrics, and
another round follows only if that candidate is better than the one before.

Adam (Kingma and Ba 2015, arXiv:1412.6980) in the weights, each of which moves at most STEP per step. Every step sees
other items, and the candidate is the mean of the last weights (Polyak averaging), which takes most of the noise out.
If weights differ over depth or filters, the first rounds move each model as a whole and the later ones every weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....search_spaces import Params
from ..sampler import Observation, Proposal
from . import survey
from .history import History

NAME, IN_DEPTH = "descent", "descent in depth"  # models as a whole, then every weight
ROUND = 5  # steps between candidates
MOST_ROUNDS = 4
STEP = 0.12  # the largest change of a weight per step, times the mean of the weights above 0 at the start
FIRST, SECOND = 0.5, 0.9  # decay of Adam's moments; the first slopes are the largest, and a long memory overshoots
AVERAGED = 3  # weights at the end of a round whose mean is the candidate


def propose(history: History) -> Proposal | None:
    """Return the next step or candidate that moves models as a whole; None if this stage has nothing to propose now."""
    if (arm := history.leading) is None or not survey.trusted(history):
        return None
    return Descent(NAME, [list(names) for names in arm.groups]).propose(history)


def propose_in_depth(history: History) -> Proposal | None:
    """Return the next step or candidate that moves every weight; None if this stage has nothing to propose now."""
    if (arm := history.leading) is None or not survey.trusted(history):
        return None
    if all(len(names) == 1 for names in arm.groups) or history.waiting(NAME) or propose(history) is not None:
        return None
    return Descent(IN_DEPTH, [[name] for names in arm.groups for name in names]).propose(history)


@dataclass(frozen=True)
class Descent:
    """Steps in groups of weights; the weights of a group move by the same amount."""

    stage: str
    groups: Sequence[Sequence[str]]

    def propose(self, history: History) -> Proposal | None:
        """Return the next step or candidate; None while one is pending, and at the end."""
        probes, candidates = self._observed(history)
        steps = [o for o in probes if o.slopes is not None and o.slopes.by_dimension]
        start = self._start(history)
        if start is None or history.waiting(self.stage) or self._ended(history, probes, candidates):
            return None
        path = self.path(start, steps)
        if len(steps) == ROUND * (len(candidates) + 1):
            return Proposal(self._moved(history, start, np.mean(path[-AVERAGED:], axis=0)), self.stage)
        return Proposal(self._moved(history, start, path[-1]), self.stage, probe="gradient", offset=len(steps))

    def _observed(self, history: History) -> tuple[list[Observation], list[Observation]]:
        """Return the finished probes and the finished candidates."""
        observed = history.of_stage(self.stage)
        return [o for o in observed if o.probe], [o for o in observed if not o.probe]

    def _ended(self, history: History, probes: Sequence[Observation], candidates: Sequence[Observation]) -> bool:
        """Return whether a step has failed, or the last round has gained nothing."""
        if any(o.slopes is None for o in probes) or len(candidates) >= MOST_ROUNDS:
            return True
        if not candidates:
            return False
        # The start is flattered by having been chosen, so the first round is given its standard error.
        start = history.best_before(self.stage)
        before = candidates[-2] if len(candidates) > 1 else start
        value, level = candidates[-1].feasible_value, -np.inf if before is None else before.feasible_value
        slack = candidates[0].stderr if len(candidates) == 1 and np.isfinite(candidates[0].stderr) else 0.0
        return value <= level - slack

    def path(self, start: Params, steps: Sequence[Observation]) -> list[np.ndarray]:
        """Return the changes of the groups at the start, 0, and after every step, each (len(groups),)."""
        weights = [[float(start[name]) for name in names] for names in self.groups]
        positive = [w for group in weights for w in group if w > 0]
        largest = STEP * (float(np.mean(positive)) if positive else 0.1)
        least = np.array([-max(group) for group in weights])
        x = np.zeros(len(self.groups))
        first, second, path = np.zeros_like(x), np.zeros_like(x), [x]
        for t, observation in enumerate(steps, start=1):
            assert observation.slopes is not None, "Should not reach."
            by_name = observation.slopes.by_dimension
            slope = np.array([sum(by_name.get(name, 0.0) for name in names) for names in self.groups])
            first = FIRST * first + (1 - FIRST) * slope
            second = SECOND * second + (1 - SECOND) * slope**2
            size = np.sqrt(second / (1 - SECOND**t))
            direction = np.divide(first / (1 - FIRST**t), size, out=np.zeros_like(x), where=size > 0)
            decay = 1.0 if t <= ROUND else 0.5
            x = np.maximum(x - largest * decay * np.clip(direction, -1, 1), least)
            path.append(x)
        return path

    def _start(self, history: History) -> Params | None:
        first = next(iter(history.asked(self.stage)), None)
        if first is not None:
            return first.params
        arm, best = history.leading, history.best_before(self.stage)
        return None if arm is None or best is None else arm.as_params(best)

    def _moved(self, history: History, start: Params, change: np.ndarray) -> Params:
        arm = history.leading
        assert arm is not None, "Should not reach."
        moved = {n: float(start[n]) + float(c) for names, c in zip(self.groups, change, strict=True) for n in names}
        return {**start, **arm.clipped(moved)}
