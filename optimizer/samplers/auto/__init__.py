"""The default sampler: stages that each ask what the one before has left open.

    line      equal weights of several totals
    soup      models added one at a time, best first, while the score improves
    survey    does the loss of the gold answers rank known candidates as the metrics do?
    descent   gradient steps in all weights at once, if it does
    transfer  the best weights under every other method
    refine    a Gaussian process, or CMA-ES, around the best; it ends when there is nothing left to gain

Every stage is a function of the observations told so far, so a resumed run goes on as if it had not been interrupted.
A stage that waits for one of its own candidates leaves other workers to the stages after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ....search_spaces import SearchSpace
from ...proposal import StageEnd
from ..arms import Arms
from ..sampler import Observation, Proposal, Stop
from . import descent, line, outcomes, refine, soup, survey, transfer
from .history import History
from .stop import reason_to_stop

NAME = "auto"
STAGES: dict[str, tuple[Callable[[History], Proposal | None], ...]] = {
    "line": (line.propose,),
    "soup": (soup.propose,),
    "descent": (survey.propose, descent.propose),
    "transfer": (transfer.propose,),
}


class AutoSampler:
    """`stages`: those that are used, in the order of STAGES; `refine` comes last and is always there."""

    def __init__(self, space: SearchSpace, seed: int, stages: Sequence[str] = tuple(STAGES), stop: bool = True) -> None:
        self.history = History(space, Arms(space), seed)
        self.steps = tuple(step for name, steps in STAGES.items() if name in stages for step in steps)
        self.stop = stop

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate or probe."""
        self.history.told.append(observation)

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal | Stop:
        """Return the first stage's wish; the last stage's when all others are done or waiting."""
        self.history.pending = pending
        proposal = next(filter(None, (step(self.history) for step in self.steps)), None)
        answer: Proposal | Stop | None = proposal
        if answer is None and self.stop:
            answer = reason_to_stop(self.history, index)
        return replace(answer or refine.propose(self.history, index), ended=self._ended())

    def _ended(self) -> tuple[StageEnd, ...]:
        """Return the stages before the first one that has something to ask for, or waits for what it asked for."""
        ends: list[StageEnd] = []
        for step in self.steps if self.history.told else ():
            if outcomes.is_pending(self.history, step) or step(self.history) is not None:
                break
            ends.append(outcomes.outcome(self.history, step))
        return tuple(ends)


make = AutoSampler
