"""The command line as tests call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


class Command(Protocol):
    """`command("merge", recipe, out)` calls the command line in this process."""

    def __call__(self, *arguments: object) -> Outcome:
        """Run it."""
        ...
