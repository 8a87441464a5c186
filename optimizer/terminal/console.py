"""The console on which commands print their results."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

PIPED_WIDTH = 140  # columns at least; piped output is read by programs and logs, so tables must not be cut to 80


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings on standard error."""
    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence, folded between words on a terminal and in one line elsewhere."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def make_console() -> Console:
    """Return the console of standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, PIPED_WIDTH))
