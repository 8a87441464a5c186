"""The retry policy for lost workers, and a loop that runs a set of jobs to completion.

A candidate whose worker is lost is retried, on another node if possible. After two lost workers it is given up, because
it would probably cost more. Losses that the candidate cannot have caused, such as a node that leaves, do not count.
Losses are recorded as events, so that a resumed run knows them. In the final phase every session starts counting at
zero: its candidates have been scored before, and the verdict needs them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields

from ...evaluators import BlockScores, Part, Scores, join
from ..pools import BlockDone, Failed, Finished, Job, Lost, Pool
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import LostAttempt
from ..stop_signals import at_safe_points, raise_if_overdue, raise_if_stop_requested, stop_requested

MAX_WORKERS_LOST = 2  # by one candidate
MAX_ATTEMPTS = 10  # lost attempts for any reason: ten nodes in a row do not leave by chance


@dataclass(frozen=True)
class Restarted:
    """A job starts again; its blocks so far are discarded."""

    number: int


DriverEvent = BlockDone | Finished | Failed | Restarted


class Dispatcher:
    """A pool whose jobs all end as finished or failed, because jobs of lost workers are retried."""

    def __init__(self, pool: Pool, run_folder: RunFolder, announce: Callable[[str], None]) -> None:
        self.pool, self.run_folder, self.announce = pool, run_folder, announce
        self._jobs: dict[int, Job] = {}
        self._retries: deque[Job] = deque()
        self._attempts: dict[tuple[int, Part], list[LostAttempt]] = {}
        self._workers_lost: Counter[tuple[str, Part]] = Counter()  # by recipe digest and part
        self._given_up: deque[Failed] = deque()
        for event in run_folder.events():
            if event["event"] == "lost" and event.get("part", "search") == "search":
                attempt = LostAttempt(**{known.name: event[known.name] for known in fields(LostAttempt)})
                self._attempts.setdefault((event["number"], "search"), []).append(attempt)
                self._workers_lost[event["recipe"], "search"] += attempt.counts

    @property
    def free(self) -> int:
        """The number of jobs that can be submitted now."""
        return self.pool.free - len(self._retries)

    def submit(self, job: Job) -> None:
        """Submit a job; it fails at once if its recipe has already cost too many workers."""
        self._jobs[job.number] = job
        if not self._give_up(job):
            self.pool.submit(job)

    def next_event(self) -> DriverEvent | None:
        """Wait for the next event of any job; return None if there is none yet."""
        while self._retries and self.pool.free:
            job = self._retries.popleft()
            self.pool.submit(job, avoid=[attempt.place for attempt in self._attempts[job.number, job.part]])
        if self._given_up:
            event = self._given_up.popleft()
        else:
            event = self.pool.next_event()
            if event is None or isinstance(event, BlockDone):
                return event
            if isinstance(event, Lost):
                return self._take_loss(event)
        del self._jobs[event.number]
        return event

    def answer(self, number: int, *, go_on: bool) -> None:
        """Continue or end a job whose block is done."""
        self.pool.answer(number, go_on=go_on)

    def lost_attempts(self, number: int) -> tuple[LostAttempt, ...]:
        """Return the lost attempts at scoring a trial on the search part."""
        return tuple(self._attempts.get((number, "search"), ()))

    def _take_loss(self, lost: Lost) -> Restarted:
        job = self._jobs[lost.number]
        attempt = LostAttempt(lost.worker, lost.place, lost.error, round(lost.seconds, 3), lost.counts)
        self._attempts.setdefault((job.number, job.part), []).append(attempt)
        self._workers_lost[job.recipe.digest, job.part] += lost.counts
        self.run_folder.note("lost", number=job.number, part=job.part, recipe=job.recipe.digest, **asdict(attempt))
        self.announce(f"worker {lost.worker} was lost with trial {job.number}: {lost.error}")
        if not self._give_up(job):
            self._retries.append(job)
        return Restarted(job.number)

    def _give_up(self, job: Job) -> bool:
        """Give up a job that has cost too many workers; return whether it was given up."""
        workers_lost = self._workers_lost[job.recipe.digest, job.part]
        lost = self._attempts.get((job.number, job.part), [])
        if workers_lost < MAX_WORKERS_LOST and len(lost) < MAX_ATTEMPTS:
            return False
        cost = workers_lost if workers_lost >= MAX_WORKERS_LOST else len(lost)
        last = f"; the last: {lost[-1].error}" if lost else ""
        self._given_up.append(Failed(job.number, f"cost {cost} workers and is not tried again{last}"))
        return True


@dataclass
class JobOutcome:
    """The outcome of a job that ran to completion: scores or an error, and the weights digest of `Finished`."""

    scores: Scores | None = None
    error: str = ""
    digest: tuple[str, str] | None = None
    blocks: list[BlockScores] = field(default_factory=list)


def run_all(
    dispatcher: Dispatcher, jobs: Iterable[Job], *, grace: float, done: Callable[[int, JobOutcome], None]
) -> dict[int, JobOutcome]:
    """Run jobs to completion; return the outcomes by number. `done` is called with every outcome as it arrives.

    Raises:
        StoppedError: a signal requested a stop; jobs in flight had `grace` seconds to finish.
    """
    waiting = deque(jobs)
    outcomes = {job.number: JobOutcome() for job in waiting}
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
