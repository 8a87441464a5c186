"""The console on which commands print their results."""

from __future__ import annotations

from rich.console import Console

PIPED_WIDTH = 140  # columns at least; piped output is read by programs and logs, so tables must not be cut to 80


def make_console() -> Console:
    """Return the console of standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, PIPED_WIDTH))
