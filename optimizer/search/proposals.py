"""The candidates of a run in the order in which they are scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set

from ...search_spaces import OutsideSpaceError, Params
from ..run_folder.run_folder import RunFolder
from ..samplers import Sampler
from .candidate import Candidate
from .leaderboard import Leaderboard


class Proposals:
    """Yields the unfinished baselines, then proposals of the sampler until the budget or the time limit is spent.

    Every proposal is recorded as an event at once. A candidate that was in flight when an earlier session ended
    is proposed again as recorded, without asking the sampler.
    """

    def __init__(
        self,
        leaderboard: Leaderboard,
        run_folder: RunFolder,
        sampler: Sampler,
        *,
        pending: Callable[[], Sequence[Params]],
        announce: Callable[[str], None],
    ) -> None:
        """`pending()` returns the points of the sampler's proposals that are being scored."""
        self.leaderboard, self.run_folder, self.sampler = leaderboard, run_folder, sampler
        self.pending, self.announce = pending, announce
        self.plan = leaderboard.plan

    def candidates(self, done: Set[int]) -> Iterator[Candidate]:
        """Yield the candidates whose numbers are not in `done`. The time limit counts from the first proposal."""
        baselines = len(self.plan.baselines)
        for number in range(baselines):
            if number not in done:
                yield self._baseline(number)
        limit, start = self.plan.config.search.time_limit, time.monotonic()
        asked = {event["number"]: event for event in self.run_folder.events() if event["event"] == "asked"}
        for number in range(baselines, self.plan.total):
            if number in done:
                continue
            if limit is not None and time.monotonic() - start >= limit:
                self.announce(f"time limit of {limit:g} s reached after {len(self.leaderboard.trials)} trials")
                return
            if (known := asked.get(number)) is not None:
                params, after = known["params"], known["after"]
            else:
                params, after = self.sampler.ask(number - baselines, self.pending()), len(self.leaderboard.trials)
            self.run_folder.note("asked", number=number, after=after, params=params)  # again in every session
            yield Candidate(number, self.plan.space.recipe(params), params, after)

    def _baseline(self, number: int) -> Candidate:
        name, recipe = self.plan.baselines[number]
        params, outside = None, None
        try:
            params = self.plan.space.params(recipe)
        except OutsideSpaceError as reason:
            outside = str(reason)
        return Candidate(number, recipe, params, len(self.leaderboard.trials), name, outside)
