"""The interface through which a search reports its progress."""

from __future__ import annotations

from typing import Protocol

from ..run_folder.trial import Trial


class Watcher(Protocol):
    """Receives the progress of a search, for example to draw a progress bar."""

    def started(self, done: int, total: int, dropped: int, *, items_left: int | None = None) -> None:
        """The search starts with `done` of `total` trials finished in earlier sessions, `dropped` of them early.

        `items_left`: how many item scores may still be spent; None without a limit.
        """

    def workers(self, ready: int, wanted: int) -> None:
        """`ready` of `wanted` workers can take jobs."""

    def block(self, items: int) -> None:
        """Another block of `items` items has been scored."""

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """A trial has finished; `best` is the best feasible trial so far."""

    def announce(self, message: str) -> None:
        """Show a message to the user."""
