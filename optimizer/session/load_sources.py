"""Reading the sources before a search, with progress."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from .session import Session, host_memory

SHOWN = 1 << 28  # bytes from which the progress is worth a line


def load_sources(session: Session, console: Console) -> None:
    """Read all sources in parallel, where they fit: to the device, or into the host's memory."""
    total = session.source_bytes()
    columns = (TextColumn("[bold]sources"), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    hidden = not console.is_terminal or total < SHOWN
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=total)
        load_quietly(session, lambda nbytes: bar.advance(task, nbytes))


def load_quietly(session: Session, advance: Callable[[int], None] = lambda nbytes: None) -> None:
    """As `load_sources`; `advance` is told of every so many bytes."""
    if not session.bank.residency.resident and session.source_bytes() > host_memory() / 2:
        return  # what is read last would drive out what was read first
    session.bank.load(advance)
