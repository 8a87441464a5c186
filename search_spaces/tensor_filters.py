"""Filters of tensor names, as the substrings that mergekit's recipes know.

A regular expression is written as substrings that occur in the tensors that it matches and in no others, so that
mergekit reads the recipe with the same meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mergesmith.errors import UserError

from .config import REGEX


def filter_substrings(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the substrings for a filter: itself, or those that stand for a regular expression.

    Args:
        pattern: a part of tensor names, or a regular expression after `re:`, which may match anywhere in a name.
        names: the tensors of the model; needed for regular expressions.

    Raises:
        UserError: the expression matches no tensor, or no substrings separate its tensors from the others.
    """
    if not pattern.startswith(REGEX):
        return (pattern,)
    expression = re.compile(pattern.removeprefix(REGEX))
    matched = [name for name in names if expression.search(name)]
    if not matched:
        example = f"; a name here is '{names[0]}'" if names else ""
        raise UserError(f"'{pattern}' matches no tensor name{example}")
    others = "\n".join(name for name in names if not expression.search(name))
    found: list[str] = []
    for name in matched:
        if any(text in name for text in found):
            continue
        candidates = [text for text in _parts(name) if text not in others]
        if not candidates:
            raise UserError(f"'{pattern}' cannot be written as substrings: '{name}' is part of another tensor's name")
        found.append(max(candidates, key=lambda text: (sum(text in other for other in matched), -len(text), text)))
    return tuple(found)


def _parts(name: str) -> Iterator[str]:
    """Yield the runs of a name's components, with and without the dots around them."""
    components = name.split(".")
    for start in range(len(components)):
        for stop in range(start + 1, len(components) + 1):
            text = ".".join(components[start:stop])
            yield text
            yield ("." if start else "") + text + ("." if stop < len(components) else "")
