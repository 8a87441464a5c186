"""The console on which commands print their results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

PIPED_WIDTH = 140  # columns at least; piped output is read by programs and logs, so tables must not be cut to 80


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings on standard error."""
    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)


class _State:
    quiet = False


def be_quiet(quiet: bool) -> None:
    """Print results, warnings and errors only, from now on; or print everything."""
    _State.quiet = quiet


def is_quiet() -> bool:
    """Return whether only results, warnings and errors are printed."""
    return _State.quiet


def note(console: Console, text: str) -> None:
    """Print what is going on, unless only results are printed."""
    if not _State.quiet:
        say(console, text, "dim")


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print a document as JSON on standard output; NaN and infinite numbers become null."""
    print(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence, folded between words on a terminal and in one line elsewhere."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def make_console(*, silent: bool = False) -> Console:
    """Return the console of standard output; a silent one prints nothing."""
    console = Console(quiet=silent)
    return console if console.is_terminal else Console(width=max(console.width, PIPED_WIDTH), quiet=silent)
