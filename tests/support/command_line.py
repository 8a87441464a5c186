"""The types of the fixture that calls the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Outcome:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


class Command(Protocol):
    """`command("merge", recipe, out)` calls the command line in this process."""

    def __call__(self, *arguments: object) -> Outcome:
        """Run the command with these arguments."""
        ...
