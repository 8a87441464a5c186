"""A section of the report: a title and the content that its template lays out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        name: its anchor, and the name of its template.
        title: its heading.
        content: the variables of its template.
    """

    name: str
    title: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: the titles of the columns.
        rows: the cells of each row.
        words: the titles of the columns that hold words; the others hold numbers and are aligned to the right.
        strong: the index of the row to emphasize.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str]
    strong: int | None = None


def thinned(found: Sequence[T], most: int) -> Sequence[T]:
    """Return every n-th element, at most `most`, so that a picture of many trials stays small."""
    return found[:: math.ceil(len(found) / most) or 1]


def decimals(value: float | None, digits: int = 3) -> str:
    """Return a number as text; '-' if it is unknown."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference as text with its sign; '-' if it is unknown."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:+.{digits}f}" if abs(value) < 100 else f"{value:+,.0f}"


def interval(low: float | None, high: float | None) -> str:
    """Return an interval as text; '' if there is none."""
    return "" if low is None or high is None else f"[{signed(low)}, {signed(high)}]"
