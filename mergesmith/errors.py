"""What a user's mistake looks like: one message that says where, the law, the value, the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MANY, FEW = 40, 6  # more names than MANY are not listed whole


class UserError(ValueError):
    """A mistake that the user can mend. The command line prints its text alone and exits with code 2."""


class Faults:
    """Collects every fault of an input, each with its place, so that all are reported at once.

    >>> faults = Faults("recipe.yaml")
    >>> faults.add("parameters.t", "must lie in [0, 1], but is 3")
    >>> faults.raise_if_any()
    Traceback (most recent call last):
    mergesmith.errors.UserError: recipe.yaml: parameters.t: must lie in [0, 1], but is 3
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.found: list[str] = []

    def add(self, place: str, message: str) -> None:
        """Record one fault at `place` (a key path, a tensor name, a file); an empty place is the whole subject."""
        self.found.append(f"{place}: {message}" if place else message)

    def raise_if_any(self) -> None:
        """Raise one UserError with all faults, or return when there are none.

        Raises:
            UserError: at least one fault was added.
        """
        if len(self.found) == 1:
            raise UserError(f"{self.subject}: {self.found[0]}")
        if self.found:
            raise UserError("\n".join([f"{self.subject}: {len(self.found)} faults", *(f"  - {f}" for f in self.found)]))


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The message for an unknown name: the nearest known one, then all of them, or the nearest few of very many."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=FEW, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    if len(names) > MANY:
        others = f" Others like it: {', '.join(near[1:])}." if near[1:] else ""
        return f"unknown {what} '{name}'.{hint}{others} ({len(names)} are known.)"
    return f"unknown {what} '{name}'.{hint} Known: {', '.join(names) or 'none'}."


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def first_few(names: Sequence[str], most: int = 6, *, separator: str = ", ") -> str:
    """Join the first `most` of the names, followed by how many more there are."""
    rest = len(names) - most
    shown = separator.join(names[:most])
    if rest <= 0:
        return shown
    return f"{shown} and {rest} more" if separator == ", " else f"{shown}{separator}and {rest} more"
