"""How signals stop a run: at the next safe point, or at once when sent again.

A Python signal handler may run anywhere, also inside a library's callback that swallows or translates what the handler
raises. So while a search is at work the first signal only leaves a note, which the search reads between blocks.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StoppedError(BaseException):
    """A signal asked us to stop. No KeyboardInterrupt: the command-line library has its own answer to that."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class _State:
    safe_points: bool = False  # whether somebody looks at `noted` often
    noted: int | None = None  # the exit code that a signal asked for


_state = _State()


def install() -> None:
    """Handle the signals that stop a program."""
    _state.safe_points, _state.noted = False, None
    for number in EXIT_CODES:
        signal.signal(number, _handle)


@contextmanager
def at_safe_points() -> Iterator[None]:
    """Inside, the first signal waits for `check`."""
    _state.safe_points = True
    try:
        yield
    finally:
        _state.safe_points = False


def check() -> None:
    """A safe point.

    Raises:
        StoppedError: a signal came since the last one.
    """
    if _state.noted is not None:
        raise StoppedError(_state.noted)


def _handle(number: int, _frame: object) -> None:
    again, _state.noted = _state.noted is not None, EXIT_CODES[signal.Signals(number)]
    if again or not _state.safe_points:
        raise StoppedError(_state.noted)
