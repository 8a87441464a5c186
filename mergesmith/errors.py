"""Errors that the user can correct, with messages that name the place, the rule, the value and the likely fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

MANY, FEW = 40, 6  # of more than MANY known names, only the FEW nearest are listed


class UserError(ValueError):
    """A mistake that the user can correct. The command line prints only its text and exits with code 2.

    Attributes:
        faults: the faults that the message lists, one sentence each; the message itself if it is a single fault.
    """

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults) or (message,)


class Faults:
    """Collects the faults of an input, each with its place, so that all are reported at once.

    >>> faults = Faults("recipe.yaml")
    >>> faults.add("parameters.t", "must be in [0, 1], but is 3")
    >>> faults.raise_if_any()
    Traceback (most recent call last):
    mergesmith.errors.UserError: recipe.yaml: parameters.t: must be in [0, 1], but is 3
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.messages: list[str] = []

    def add(self, place: str, message: str) -> None:
        """Record a fault at `place` (a key path, tensor name or file); an empty place means the whole subject."""
        self.messages.append(f"{place}: {message}" if place else message)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Record the faults of a UserError that is raised inside, instead of raising it."""
        try:
            yield
        except UserError as error:
            self.messages += error.faults

    def raise_if_any(self) -> None:
        """Raise one UserError that lists all faults; return if there are none.

        Raises:
            UserError: at least one fault was added.
        """
        messages = list(dict.fromkeys(self.messages))  # several places may report the same fault
        if len(messages) == 1:
            raise UserError(f"{self.subject}: {messages[0]}")
        if messages:
            text = "\n".join([f"{self.subject}: {len(messages)} faults", *(f"  - {m}" for m in messages)])
            raise UserError(text, [f"{self.subject}: {m}" for m in messages])


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest known name and all others (a few, if there are many)."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=FEW, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    if len(names) > MANY:
        others = f" Others like it: {', '.join(near[1:])}." if near[1:] else ""
        return f"unknown {what} '{name}'.{hint}{others} ({len(names)} are known.)"
    return f"unknown {what} '{name}'.{hint} Known: {', '.join(names) or 'none'}."


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or the name of its class if the text is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def first_few(names: Sequence[str], most: int = 6, *, separator: str = ", ") -> str:
    """Join the first `most` names, followed by the number of names left out."""
    rest = len(names) - most
    shown = separator.join(names[:most])
    if rest <= 0:
        return shown
    return f"{shown} and {rest} more" if separator == ", " else f"{shown}{separator}and {rest} more"
