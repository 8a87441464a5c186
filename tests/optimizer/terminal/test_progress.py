"""Progress keeps bar, count and times at 80 columns, and gives a time left only when it means something."""

from __future__ import annotations

import io
from typing import Any

import pytest
from made_runs import make_trial
from rich.console import Console

from mergesmith.evaluators import Leaf, Score, TaskEntry
from mergesmith.optimizer.terminal.console import say
from mergesmith.optimizer.terminal.pace import MEANINGFUL, Pace
from mergesmith.optimizer.terminal.progress import Report
from mergesmith.optimizer.terminal.score_table import ScoreTable
from mergesmith.optimizer.terminal.steps import Steps


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passed(pace: Pace, clock: Clock, trials: int, *, seconds: float, items: int, candidate: bool) -> None:
    for _ in range(trials):
        clock.now += seconds
        pace.block(items)
        pace.finished(candidate=candidate)


def test_baselines_do_not_mislead() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    passed(pace, clock, 7, seconds=40, items=400, candidate=False)
    passed(pace, clock, MEANINGFUL - 1, seconds=10, items=100, candidate=True)
    assert pace.seconds_left(30, None) is None
    passed(pace, clock, 1, seconds=10, items=100, candidate=True)
    assert pace.seconds_left(30, None) == pytest.approx(300)
    assert pace.seconds_left(30, 1000) == pytest.approx(100)


def test_the_verdict_counts_as_time_left() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    passed(pace, clock, MEANINGFUL, seconds=10, items=100, candidate=True)
    pace.items_after = 2130
    assert pace.seconds_left(0, None) == pytest.approx(213)


def test_a_terminal_of_80_columns() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, color_system=None)
    report = Report(console)
    best = make_trial(16, value=0.80123)
    with report:
        report.started(0, 35, 0)
        for number in range(13):
            trial: Any = make_trial(number, stage="descent in depth")
            report.block(100)
            report.finished(trial, best)
        report.workers(2, 2)
    lines = [line for line in output.getvalue().replace("\r", "\n").split("\n") if "13/35" in line]
    assert lines, output.getvalue()
    for part in ("search", "13/35", "0:00:00", " left", "best 0.801 (16)"):
        assert part in lines[-1]
    assert "━" in lines[-1]


def test_steps_are_spaced(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(), []
    monkeypatch.setattr("mergesmith.optimizer.terminal.steps.time.monotonic", clock)
    steps = Steps(lines.append, "models")
    for done in range(9):
        steps("report items", done, 8)
        clock.now += 2
    assert lines == ["report items: 3/8 models, about 10 s left", "report items: 6/8 models, about 4 s left"]


@pytest.mark.parametrize("width", [80, 140])
def test_the_verdict_at_80_columns(width: int) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, color_system=None)
    names = ("demo_sort", "demo_reverse", "demo_climb")
    entries = [TaskEntry(n, 1.0, "exact_match", "none", 1, True, None, (Leaf(n, 1.0, "mean"),)) for n in names]
    table = ScoreTable("Scores on the report items", entries, console)
    scores = {name: Score(0.8051, 0.0264, 233) for name in names}
    table.add("winner: trial 38 (task_arithmetic)", scores, 0.8051, 0.0264)
    table.print()
    say(console, "The winner is better than the best parent by 0.536 [0.492, 0.579] on 233 items that it has not seen.")
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "0.805 ± 0.026" in text
    assert text.count("±") == 2 + 3 * (width == 140)
    for word in ("task_arithmetic", "demo_reverse", "233 items"):
        assert word in text.replace("\n", " "), text
