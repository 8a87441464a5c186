"""What becomes of jobs whose workers are lost, and of those in flight when a signal comes; on workers by script."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from mergesmith.evaluators import BlockScores, Part
from mergesmith.merge_ops import Recipe, Source
from mergesmith.optimizer import stop_signals
from mergesmith.optimizer.pools import BlockDone, Event, Failed, Finished, Job, LocalPool, Lost
from mergesmith.optimizer.run_folder.run_folder import RunFolder
from mergesmith.optimizer.search.dispatcher import MAX_ATTEMPTS, Dispatcher, JobOutcome, Restarted, run_all

RECIPE = Recipe("passthrough", models=(Source("base"),))


class Script(LocalPool):
    """A worker that loses its jobs as told: one entry for each attempt, whether it counts; then it finishes them."""

    def __init__(self, *losses: bool, interrupt: bool = False) -> None:
        self.losses, self.interrupt = deque(losses), interrupt
        self.tried: list[int] = []
        self._jobs: deque[Job] = deque()
        self._begun = False

    @property
    def free(self) -> int:
        return 1 - len(self._jobs)

    def submit(self, job: Job, *, avoid: Collection[str] = ()) -> None:
        self._jobs.append(job)
        self.tried.append(job.number)

    def next_event(self) -> Event:
        number = self._jobs[0].number
        if self.losses:
            self._jobs.clear()
            return Lost(number, f"w{len(self.tried)}", "here", "gone", 1.0, counts=self.losses.popleft())
        if not self._begun:
            self._begun = True
            if self.interrupt:
                os.kill(os.getpid(), signal.SIGTERM)
            return BlockDone(number, BlockScores("report", 0, {}, 1.0), 0.0)
        self._jobs.clear()
        return Finished(number, "w")

    def answer(self, number: int, *, go_on: bool) -> None:
        assert go_on


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (*stop_signals.EXIT_CODES, signal.SIGALRM)}
    stop_signals.install()
    yield
    stop_signals.install()
    for number, handler in before.items():
        signal.signal(number, handler)


def end(pool: Script, run_folder: RunFolder, part: Part = "search") -> Finished | Failed:
    """What a job comes to."""
    dispatcher = Dispatcher(pool, run_folder, lambda message: None)
    dispatcher.submit(Job(3, RECIPE, part))
    while True:
        event = dispatcher.next_event()
        if isinstance(event, (Finished, Failed)):
            return event
        assert isinstance(event, (Restarted, BlockDone))


def test_two_losses_that_count(run_folder: RunFolder) -> None:
    assert isinstance(end(Script(True, False, False), run_folder), Finished)
    pool = Script(True)
    again = end(pool, run_folder)  # the run goes on, and knows of the first loss
    assert isinstance(again, Failed)
    assert again.error == "cost 2 workers and is not tried again; the last: gone"
    assert len(pool.tried) == 1


def test_losses_that_do_not_count_end_too(run_folder: RunFolder) -> None:
    pool = Script(*[False] * 1000)
    assert isinstance(end(pool, run_folder), Failed)
    assert len(pool.tried) == MAX_ATTEMPTS


def test_losses_in_the_final_phase_end_with_the_session(run_folder: RunFolder) -> None:
    """The run could never come to a result otherwise, as where trial_timeout was too short for the report items."""
    assert isinstance(end(Script(True, True), run_folder, "report"), Failed)
    assert isinstance(end(Script(), run_folder, "report"), Finished)


@pytest.mark.usefixtures("_signals")
def test_what_is_in_flight_finishes_after_a_signal(run_folder: RunFolder) -> None:
    pool = Script(interrupt=True)
    done: dict[int, JobOutcome] = {}
    with pytest.raises(stop_signals.StoppedError):
        run_all(
            Dispatcher(pool, run_folder, lambda message: None),
            [Job(number, RECIPE, "report") for number in range(3)],
            grace=30.0,
            done=done.__setitem__,
        )
    assert pool.tried == [0]
    assert list(done) == [0]
