"""How long workers wait where one driver serves many: a simulation with a virtual clock."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

SPREAD = (0.5, 1.5)  # a candidate's time varies threefold, evenly about its mean
TRIALS = 10_000


@dataclass(frozen=True)
class Service:
    """What the driver spends, in seconds.

    Attributes:
        blocks: of a candidate.
        block: for each: to hear of it, to decide, to answer.
        trial: for each candidate besides: to write it down and to give out the next one.
        ask: for the first proposal.
        growth: that much more for each further one.
    """

    blocks: int
    block: float
    trial: float
    ask: float
    growth: float

    def mean(self, trials: int = TRIALS) -> float:
        """Per candidate, over a search of so many."""
        return self.blocks * self.block + self.trial + self.ask + self.growth * trials / 2

    def workers(self, seconds: float, trials: int = TRIALS) -> float:
        """The law: so many workers with candidates of so many seconds keep the driver just busy."""
        return seconds / self.mean(trials)


def waiting(service: Service, workers: int, seconds: float, trials: int = TRIALS) -> float:
    """The share of the workers' time without work, until the last candidate is given out.

    The driver serves one event after the other, in the order in which they arrive. A worker that has scored a block
    waits for the answer; one that has scored the last one waits for its next candidate.
    """
    draw, order = random.Random(0), itertools.count()
    arrivals = [(0.0, next(order), service.blocks, 0.0) for _ in range(workers)]  # when, who, blocks done, per block
    heapq.heapify(arrivals)
    now = worked = 0.0
    given = 0
    while given < trials:
        at, _, done, per_block = heapq.heappop(arrivals)
        now = max(now, at) + service.block
        if done == service.blocks:
            now += service.trial + service.ask + service.growth * given
            given, done = given + 1, 0
            per_block = seconds * draw.uniform(*SPREAD) / service.blocks
        worked += per_block
        heapq.heappush(arrivals, (now + per_block, next(order), done + 1, per_block))
    ahead = sum(min(per_block, max(0.0, at - now)) for at, _, _, per_block in arrivals)  # not worked yet
    return 1 - (worked - ahead) / (workers * now)
