"""The candidates and probes of a run in the order in which they are scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from ...search_spaces import OutsideSpaceError
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import Trial
from ..samplers import Proposal, Sampler, Stop
from .candidate import Candidate
from .leaderboard import Leaderboard
from .stages import Stages


class Proposals:
    """Yields the unfinished baselines, then proposals of the sampler until a limit is reached or the sampler ends.

    Every proposal is recorded as an event at once. A candidate that was in flight when an earlier session ended
    is proposed again as recorded, without asking the sampler.

    Attributes:
        end: why there are no more proposals; empty while there are.
    """

    def __init__(
        self,
        leaderboard: Leaderboard,
        run_folder: RunFolder,
        sampler: Sampler,
        *,
        stages: Stages,
        pending: Callable[[], Sequence[Proposal]],
        announce: Callable[[str], None],
    ) -> None:
        """`pending()` returns the sampler's proposals that are being scored."""
        self.leaderboard, self.run_folder, self.sampler, self.stages = leaderboard, run_folder, sampler, stages
        self.pending, self.announce = pending, announce
        self.plan = leaderboard.plan
        self.end = ""

    def candidates(self, done: Mapping[int, Trial]) -> Iterator[Candidate]:
        """Yield the candidates whose numbers are not in `done`. The time limit counts from the first proposal."""
        baselines = len(self.plan.baselines)
        for number in range(baselines):
            if number not in done:
                yield self._baseline(number)
        start, events = time.monotonic(), self.run_folder.events()
        asked = {event["number"]: event for event in events if event["event"] == "asked"}
        ended = next((event["reason"] for event in events if event["event"] == "ended"), None)
        proposed = 0  # candidates, without probes
        for number in count(baselines):
            if number in done:
                proposed += not done[number].probe
                continue
            if number - 1 == self.plan.last:
                return
            if self._limit_reached(proposed, time.monotonic() - start, in_flight=number in asked):
                return
            if number in asked:
                candidate = self._recorded(number, asked[number])
            elif ended is not None:
                self.end = ended
                return
            else:
                after = len(self.leaderboard.trials)
                answer = self.sampler.ask(number - baselines, self.pending())
                self.stages.end(answer.ended)
                if isinstance(answer, Stop):
                    self._stop(answer)
                    return
                candidate = self._proposed(number, answer, after)
            proposed += not candidate.probe
            facts = {"after": candidate.after, "params": candidate.params}
            facts |= {"stage": candidate.stage, "probe": candidate.probe, "offset": candidate.offset}
            self.run_folder.note("asked", number=number, **facts)  # again in every session
            yield candidate

    def _limit_reached(self, proposed: int, seconds: float, *, in_flight: bool) -> bool:
        """Whether a limit of the search is reached; `end` says which.

        A candidate in flight was proposed before the item scores were spent, so it is scored whatever they are now.
        """
        search = self.plan.config.search
        if proposed >= search.trials:
            self.end = f"all {search.trials} candidates were proposed"
        elif search.time_limit is not None and seconds >= search.time_limit:
            self.end = f"the time limit of {search.time_limit:g} s was reached"
            trials = len(self.leaderboard.trials)
            self.announce(f"time limit of {search.time_limit:g} s reached after {trials} trials")
        elif search.item_scores is not None and not in_flight and self.leaderboard.spent >= search.item_scores:
            self.end = f"{self.leaderboard.spent:,} of {search.item_scores:,} item scores were spent"
        return bool(self.end)

    def _stop(self, stop: Stop) -> None:
        self.end = stop.reason
        self.announce(
            f"nothing better to find within {stop.axes} dimensions and these items: {stop.reason}. More items, more "
            "knots or other models could change that; search.stop: false goes on"
        )
        self.run_folder.note("ended", reason=stop.reason, axes=stop.axes)

    def _recorded(self, number: int, event: Mapping[str, Any]) -> Candidate:
        proposal = Proposal(event["params"], event.get("stage", ""), event.get("probe", ""), event.get("offset", 0))
        return self._proposed(number, proposal, event["after"])

    def _proposed(self, number: int, proposal: Proposal, after: int) -> Candidate:
        recipe = self.plan.space.recipe(proposal.params)
        probe = {"stage": proposal.stage, "probe": proposal.probe, "offset": proposal.offset}
        return Candidate(number, recipe, proposal.params, after, **probe)

    def _baseline(self, number: int) -> Candidate:
        name, recipe = self.plan.baselines[number]
        params, outside = None, None
        try:
            params = self.plan.space.params(recipe)
        except OutsideSpaceError as reason:
            outside = str(reason)
        return Candidate(number, recipe, params, len(self.leaderboard.trials), name, outside)
