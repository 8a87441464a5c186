"""The default sampler. It works in stages.

    line      equal weights of several totals
    soup      models added one at a time, best first, while the score improves
    survey    checks whether the loss of the gold answers ranks known candidates as the metrics do
    descent   if it does, steps to the lowest loss in all weights at once
    transfer  the best weights under every other method
    refine    a Gaussian process, or CMA-ES, around the best; ends the search when nothing better is likely to be found

Every stage is a function of the observations so far, so a resumed run continues as if it had not been interrupted.
While a stage waits for the result of one of its candidates, the stages after it supply the other workers.
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
    "descent": (survey.propose, descent.propose, descent.propose_in_depth),
    "transfer": (transfer.propose,),
}


class AutoSampler:
    """The stages in the order of STAGES, as far as `stages` names them, then `refine`, which is always used."""

    def __init__(self, space: SearchSpace, seed: int, stages: Sequence[str] = tuple(STAGES), stop: bool = True) -> None:
        self.history = History(space, Arms(space), seed)
        self.steps = tuple(step for name, steps in STAGES.items() if name in stages for step in steps)
        self.stop = stop

    def tell(self, observation: Observation) -> None:
        """Add a finished candidate or probe."""
        self.history.told.append(observation)

    def ask(self, index: int, pending: Sequence[Proposal]) -> Proposal | Stop:
        """Return the proposal of the first stage that has one; `Stop` may take the place of `refine`."""
        self.history.pending = pending
        answer: Proposal | Stop | None
        answer, ended = self._next_of_stages()
        if answer is None and self.stop:
            answer = reason_to_stop(self.history, index)
        return replace(answer or refine.propose(self.history, index), ended=ended)

    def _next_of_stages(self) -> tuple[Proposal | None, tuple[StageEnd, ...]]:
        """Return the first stage's proposal that there is, and the ends of the stages that are over.

        Over are the stages before the first one that has something to ask for, or waits for what it asked for.
        """
        history, ended = self.history, list[StageEnd]()
        over = bool(history.told)
        for step in self.steps:
            if (proposal := step(history)) is not None:
                return proposal, tuple(ended)
            over = over and not outcomes.is_pending(history, step)
            if over:
                ended.append(outcomes.outcome(history, step))
        return None, tuple(ended)


make = AutoSampler
