"""Canonical text and digests of documents, and the assignment of documents to the parts of the split."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mergesmith.errors import Faults

from ..config import PARTS, Part, SplitConfig

FEWEST_ITEMS = 10
FEW_REPORT_ITEMS = 50


def canonical(value: Any) -> str:
    """Return a document or configuration as JSON with sorted keys and no spaces, the same in every process."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def part_of(document_digest: str, split: SplitConfig) -> Part:
    """Return the part of a document: its digest's first 53 bits, as a number in [0, 1), compared with the shares."""
    position = (int(document_digest[:16], 16) >> 11) / 2**53
    if position < split.search:
        return "search"
    return "select" if position < split.search + split.select else "report"


def check_counts(counts: Mapping[str, Mapping[Part, int]], split: SplitConfig, faults: Faults) -> list[str]:
    """Add a fault for every part with fewer than 10 items; return warnings for reports with fewer than 50.

    `counts` is entry name -> part -> number of items; a group counts as one entry.
    """
    warnings = []
    for name, by_part in counts.items():
        small: list[Part] = [part for part in PARTS if by_part[part] < FEWEST_ITEMS]
        for part in small:
            faults.add(
                name,
                f"a split too small for its share: '{part}' (share {getattr(split, part):g}) holds {by_part[part]} of "
                f"{sum(by_part.values())} items, at least {FEWEST_ITEMS} are needed; raise the task's limit, give it "
                f"more documents, or give the part a larger share under 'split'",
            )
        if not small and by_part["report"] < FEW_REPORT_ITEMS:
            warnings.append(
                f"{name}: the report part holds {by_part['report']} items; with fewer than {FEW_REPORT_ITEMS} its "
                f"interval will be wide"
            )
    return warnings


def ids_in_part(sequence: Sequence[str], split: SplitConfig, part: Part) -> tuple[int, ...]:
    """Return the ascending indices of the documents, given by their digests, that belong to `part`."""
    return tuple(i for i, document in enumerate(sequence) if part_of(document, split) == part)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if callable(value):
        return _source(value)
    if isinstance(value, (set, frozenset)):
        return sorted(canonical(item) for item in value)
    if type(value).__module__ == "numpy":
        return value.tolist()
    return _without_address(str(value))


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (TypeError, OSError):  # built-in functions and partial objects have no source
        return _without_address(repr(function))


def _without_address(text: str) -> str:
    # Addresses differ from process to process; digests must not.
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
