"""How a run ends before its time: by a signal, or because it cannot give a result.

A Python signal handler may run anywhere, also inside a library's callback that swallows or translates what the handler
raises. So while a search is at work the first signal only leaves a note: the search asks for no more candidates, and
those in flight are given some time to finish. When that is over, or the signal comes again, the run stops at once.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
AGAIN = 1.0  # seconds until what an overdue stop raised is raised again, where a library has swallowed it


class RunFailedError(RuntimeError):
    """The run cannot give a result; what is finished is kept."""


class StoppedError(BaseException):
    """A signal asked us to stop. No KeyboardInterrupt: the command-line library has its own answer to that."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class _State:
    grace: float | None = None  # seconds for what is in flight, while somebody looks at `noted` often
    noted: int | None = None  # the exit code that a signal asked for
    overdue: bool = False


_state = _State()


def install() -> None:
    """Handle the signals that stop a program."""
    _state.grace, _state.noted, _state.overdue = None, None, False
    signal.setitimer(signal.ITIMER_REAL, 0)
    handle_signals()


def handle_signals() -> None:
    """Take the handlers back from a library that set its own."""
    for number in EXIT_CODES:
        signal.signal(number, _handle)
    signal.signal(signal.SIGALRM, _grace_is_over)


@contextmanager
def at_safe_points(grace: float) -> Iterator[None]:
    """Inside, the first signal leaves `told` true, and `check` raises `grace` seconds later."""
    outer, _state.grace = _state.grace, grace
    try:
        yield
    finally:
        _state.grace = outer
        if outer is None:  # an alarm that came while Python ends would end it in another way
            signal.setitimer(signal.ITIMER_REAL, 0)


def stop_requested() -> bool:
    """Whether a signal asked for the end."""
    return _state.noted is not None


def raise_if_overdue() -> None:
    """A safe point while what is in flight may still finish.

    Raises:
        StoppedError: the grace time is over.
    """
    if _state.overdue:
        raise_if_stop_requested()


def raise_if_stop_requested() -> None:
    """Nothing is in flight any more.

    Raises:
        StoppedError: a signal asked for the end.
    """
    if _state.noted is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _state.overdue = True  # what is still to be written does not wait for room on the disk
        raise StoppedError(_state.noted)


def _handle(number: int, _frame: object) -> None:
    again, _state.noted = _state.noted is not None, EXIT_CODES[signal.Signals(number)]
    if again or _state.grace is None or _state.grace == 0:
        _state.overdue = True
        raise StoppedError(_state.noted)
    signal.setitimer(signal.ITIMER_REAL, _state.grace, AGAIN)


def _grace_is_over(_number: int, _frame: object) -> None:
    _state.overdue = True
    if _state.grace is not None and _state.noted is not None:
        raise StoppedError(_state.noted)
