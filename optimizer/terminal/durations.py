"""Formats durations, such as '1 h 5 min'."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration as text.

    >>> duration(3900), duration(125), duration(3)
    ('1 h 5 min', '2 min 5 s', '3 s')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole % 60} s"
