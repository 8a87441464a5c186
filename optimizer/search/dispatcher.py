"""The driver's law for lost workers, and jobs that all have to be done.

A candidate whose worker is lost is tried again, elsewhere if possible. One that has cost two workers is given up: it
would cost more. Losses that are not a candidate's doing (a node that leaves) do not count. All of it is written to the
run's events, so that a resumed run knows of them. In the final phase every session tries anew: those candidates have
been scored before, and without them there is no result.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields

from ...evaluators import BlockScores, Part, Scores, join
from ..pools import BlockDone, Failed, Finished, Job, Lost, Pool
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import LostAttempt
from ..stop import at_safe_points, raise_if_overdue, raise_if_stop_requested, stop_requested

MOST_LOST = 2  # workers that one candidate may cost
MOST_TRIED = 10  # attempts that may be lost for whatever reason: so many nodes do not leave by chance


@dataclass(frozen=True)
class Restarted:
    """A job begins again: its blocks so far are void."""

    number: int


DriverEvent = BlockDone | Finished | Failed | Restarted


class Dispatcher:
    """A pool whose jobs end either finished or failed."""

    def __init__(self, pool: Pool, run_folder: RunFolder, announce: Callable[[str], None]) -> None:
        self.pool, self.run_folder, self.announce = pool, run_folder, announce
        self._jobs: dict[int, Job] = {}
        self._again: deque[Job] = deque()
        self._lost: dict[tuple[int, Part], list[LostAttempt]] = {}
        self._costs: Counter[tuple[str, Part]] = Counter()  # by the recipe's digest
        self._given_up: deque[Failed] = deque()
        for event in run_folder.events():
            if event["event"] == "lost" and event.get("part", "search") == "search":
                attempt = LostAttempt(**{known.name: event[known.name] for known in fields(LostAttempt)})
                self._lost.setdefault((event["number"], "search"), []).append(attempt)
                self._costs[event["recipe"], "search"] += attempt.counts

    @property
    def free(self) -> int:
        """How many more jobs can be taken now."""
        return self.pool.free - len(self._again)

    def submit(self, job: Job) -> None:
        """Take a job; one whose recipe has cost too many workers fails at once."""
        self._jobs[job.number] = job
        if not self._give_up(job):
            self.pool.submit(job)

    def next_event(self) -> DriverEvent | None:
        """Wait for the next event of any job; None when there is none yet."""
        while self._again and self.pool.free:
            job = self._again.popleft()
            self.pool.submit(job, avoid=[attempt.place for attempt in self._lost[job.number, job.part]])
        if self._given_up:
            event = self._given_up.popleft()
        else:
            found = self.pool.next_event()
            if found is None or isinstance(found, BlockDone):
                return found
            if isinstance(found, Lost):
                return self._take_lost(found)
            event = found
        del self._jobs[event.number]
        return event

    def answer(self, number: int, *, go_on: bool) -> None:
        """Say whether a job whose block is done goes on."""
        self.pool.answer(number, go_on=go_on)

    def lost(self, number: int) -> tuple[LostAttempt, ...]:
        """The attempts at a trial's search part whose workers were lost."""
        return tuple(self._lost.get((number, "search"), ()))

    def _take_lost(self, lost: Lost) -> Restarted:
        job = self._jobs[lost.number]
        attempt = LostAttempt(lost.worker, lost.place, lost.error, round(lost.seconds, 3), lost.counts)
        self._lost.setdefault((job.number, job.part), []).append(attempt)
        self._costs[job.recipe.digest, job.part] += lost.counts
        self.run_folder.note("lost", number=job.number, part=job.part, recipe=job.recipe.digest, **asdict(attempt))
        self.announce(f"worker {lost.worker} was lost with trial {job.number}: {lost.error}")
        if not self._give_up(job):
            self._again.append(job)
        return Restarted(job.number)

    def _give_up(self, job: Job) -> bool:
        costs, lost = self._costs[job.recipe.digest, job.part], self._lost.get((job.number, job.part), [])
        if costs < MOST_LOST and len(lost) < MOST_TRIED:
            return False
        cost = costs if costs >= MOST_LOST else len(lost)
        last = f"; the last: {lost[-1].error}" if lost else ""
        self._given_up.append(Failed(job.number, f"cost {cost} workers and is not tried again{last}"))
        return True


@dataclass
class Outcome:
    """What became of a job that was done whole: scores, or the error; and the digest as `Finished` has it."""

    scores: Scores | None = None
    error: str = ""
    digest: tuple[str, str] | None = None
    blocks: list[BlockScores] = field(default_factory=list)


def do_all(
    dispatcher: Dispatcher, jobs: Iterable[Job], *, grace: float, done: Callable[[int, Outcome], None]
) -> dict[int, Outcome]:
    """Have jobs done to their ends; the outcomes by number. `done` is told of each at once.

    Raises:
        StoppedError: a signal asked for the end; what was in flight had `grace` seconds to finish.
    """
    waiting = deque(jobs)
    outcomes = {job.number: Outcome() for job in waiting}
    in_flight = 0
    with at_safe_points(grace):
        while in_flight or (waiting and not stop_requested()):
            while waiting and not stop_requested() and dispatcher.free > 0:
                dispatcher.submit(waiting.popleft())
                in_flight += 1
            event = dispatcher.next_event()
            raise_if_overdue()
            if event is None:
                continue
            outcome = outcomes[event.number]
            if isinstance(event, BlockDone):
                outcome.blocks.append(event.scores)
                dispatcher.answer(event.number, go_on=True)
            elif isinstance(event, Restarted):
                outcome.blocks.clear()
            else:
                in_flight -= 1
                if isinstance(event, Failed):
                    outcome.error = event.error
                else:
                    outcome.scores, outcome.digest = join(outcome.blocks), event.digest
                done(event.number, outcome)
    raise_if_stop_requested()
    return outcomes
