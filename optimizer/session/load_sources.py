"""Reading of the sources before a search, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from .host_memory import host_memory
from .session import Session

SHOWN_BYTES = 1 << 28  # smaller sources load too quickly to show a progress bar


def load_sources(session: Session, console: Console) -> None:
    """Read all sources in parallel to the device or, if they fit there, into the host's memory."""
    total = session.source_bytes()
    columns = (TextColumn("[bold]sources"), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    hidden = not console.is_terminal or total < SHOWN_BYTES
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=total)
        load_quietly(session, lambda nbytes: bar.advance(task, nbytes))


def load_quietly(session: Session, advance: Callable[[int], None] = lambda nbytes: None) -> None:
    """Read all sources as `load_sources` does, without a bar; `advance(nbytes)` is called after every read."""
    if not session.bank.residency.resident and session.source_bytes() > host_memory() / 2:
        return  # reading everything would evict the first part from the page cache again
    session.bank.load(advance)
