"""Stopping a run early: on SIGINT or SIGTERM, or because it cannot produce a result.

A Python signal handler may run anywhere, even inside a library callback that swallows or translates exceptions. During
a search, the first signal is therefore only recorded: the search proposes no more candidates, and those in flight get a
grace period to finish. After the grace period, or on a second signal, the run stops at once.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
RAISE_AGAIN_S = 1.0  # interval at which an overdue stop is raised again, in case a library swallowed the exception


class RunFailedError(RuntimeError):
    """The run cannot produce a result; finished trials are kept."""


class StoppedError(BaseException):
    """A signal requested a stop. Not a KeyboardInterrupt, which Typer handles itself.

    Attributes:
        code: the exit code.
        kept: whether a run keeps finished trials that `--resume` continues from.
    """

    def __init__(self, code: int, *, kept: bool = True) -> None:
        super().__init__(code)
        self.code, self.kept = code, kept


@dataclass
class _State:
    grace: float | None = None  # seconds for candidates in flight; None outside `at_safe_points`
    noted: int | None = None  # exit code of the signal that arrived
    overdue: bool = False


_state = _State()


def install() -> None:
    """Install the handlers of SIGINT, SIGTERM and SIGALRM, and forget earlier signals."""
    _state.grace, _state.noted, _state.overdue = None, None, False
    signal.setitimer(signal.ITIMER_REAL, 0)
    handle_signals()


def handle_signals() -> None:
    """Set the handlers, again after a library has replaced them."""
    for number in EXIT_CODES:
        signal.signal(number, _handle)
    signal.signal(signal.SIGALRM, _grace_is_over)


@contextmanager
def at_safe_points(grace: float) -> Iterator[None]:
    """Defer stopping: inside, the first signal is only recorded, and StoppedError is raised `grace` seconds later.

    The code inside checks `stop_requested` often and calls `raise_if_overdue` at points where it can be interrupted.
    """
    outer, _state.grace = _state.grace, grace
    try:
        yield
    finally:
        _state.grace = outer
        if outer is None:  # an alarm during interpreter shutdown would change the exit code
            signal.setitimer(signal.ITIMER_REAL, 0)


def stop_requested() -> bool:
    """Return whether SIGINT or SIGTERM requested a stop."""
    return _state.noted is not None


def raise_if_overdue() -> None:
    """Raise if the grace period after a stop signal is over; until then, candidates in flight may finish.

    Raises:
        StoppedError: the grace period is over.
    """
    if _state.overdue:
        raise_if_stop_requested()


def raise_if_stop_requested() -> None:
    """Raise if a stop was requested; for when no candidate is in flight.

    Raises:
        StoppedError: a signal requested a stop.
    """
    if _state.noted is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _state.overdue = True  # writes that follow do not wait for a full disk
        raise StoppedError(_state.noted)


def _handle(number: int, _frame: object) -> None:
    again, _state.noted = _state.noted is not None, EXIT_CODES[signal.Signals(number)]
    if again or _state.grace is None or _state.grace == 0:
        _state.overdue = True
        raise StoppedError(_state.noted)
    signal.setitimer(signal.ITIMER_REAL, _state.grace, RAISE_AGAIN_S)


def _grace_is_over(_number: int, _frame: object) -> None:
    _state.overdue = True
    if _state.grace is not None and _state.noted is not None:
        raise StoppedError(_state.noted)
