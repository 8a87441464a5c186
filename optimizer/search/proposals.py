"""The candidates of a run in the order in which they are scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict

from ...search_spaces import OutsideSpaceError
from ..run_folder.run_folder import RunFolder
from ..samplers import Proposal, Sampler, Stop
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
        pending: Callable[[], Sequence[Proposal]],
        announce: Callable[[str], None],
    ) -> None:
        """`pending()` returns the sampler's proposals that are being scored."""
        self.leaderboard, self.run_folder, self.sampler = leaderboard, run_folder, sampler
        self.pending, self.announce = pending, announce
        self.plan = leaderboard.plan
        self._stage = ""

    def candidates(self, done: Set[int]) -> Iterator[Candidate]:
        """Yield the candidates whose numbers are not in `done`. The time limit counts from the first proposal."""
        baselines = len(self.plan.baselines)
        for number in range(baselines):
            if number not in done:
                yield self._baseline(number)
        limit, start = self.plan.config.search.time_limit, time.monotonic()
        asked = {event["number"]: event for event in self.run_folder.events() if event["event"] == "asked"}
        ended = any(event["event"] == "ended" for event in self.run_folder.events())
        for number in range(baselines, self.plan.total):
            if number in done:
                continue
            if limit is not None and time.monotonic() - start >= limit:
                self.announce(f"time limit of {limit:g} s reached after {len(self.leaderboard.trials)} trials")
                return
            if (known := asked.get(number)) is not None:
                after = known["after"]
                proposal = Proposal(
                    known["params"], known.get("stage", ""), known.get("probe", ""), known.get("offset", 0)
                )
            elif ended:
                return
            else:
                after = len(self.leaderboard.trials)
                answer = self.sampler.ask(number - baselines, self.pending())
                if isinstance(answer, Stop):
                    self._end(answer)
                    return
                proposal = answer
            self._announce_stage(proposal)
            self.run_folder.note("asked", number=number, after=after, **asdict(proposal))  # repeated when resumed
            recipe = self.plan.space.recipe(proposal.params)
            yield Candidate(number, recipe, after=after, **asdict(proposal))

    def _end(self, stop: Stop) -> None:
        self.announce(
            f"nothing better to find within {stop.axes} dimensions and these items: {stop.reason}. More items, more "
            "knots or other models could change that; search.stop: false goes on"
        )
        self.run_folder.note("ended", reason=stop.reason, axes=stop.axes)

    def _announce_stage(self, proposal: Proposal) -> None:
        if proposal.stage and proposal.stage != self._stage:
            best = self.leaderboard.best
            now = "" if best is None else f"; best so far {best.value:.4f} ({best.label})"
            self.announce(f"stage {proposal.stage}, after {len(self.leaderboard.trials)} trials{now}")
            self._stage = proposal.stage

    def _baseline(self, number: int) -> Candidate:
        name, recipe = self.plan.baselines[number]
        params, outside = None, None
        try:
            params = self.plan.space.params(recipe)
        except OutsideSpaceError as reason:
            outside = str(reason)
        return Candidate(number, recipe, params, len(self.leaderboard.trials), name, outside)
