"""Cuts that are known but for a look at the tensor; all those of a batch of tensors are looked up together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..masks import Cut
from .launch import run
from .lookups import cuts_among, members, places_of


class Inputs(NamedTuple):
    """Addresses and dtypes of a base and its sources, and the place of the source in question."""

    at: np.ndarray
    kinds: np.ndarray
    source: int


@dataclass(frozen=True)
class Tie:
    """A cut of which all but the index is known: that of the nth element (from 1) of its magnitude in [start, stop)."""

    inputs: Inputs
    bits: int
    start: int
    stop: int
    nth: int
    known: Callable[[Cut], None]


@dataclass(frozen=True)
class Among:
    """The cut below which the `need` largest (at least one) of the elements with magnitudes in [low, high] stay.

    They lie in `pieces` (P, 2) int64, start and stop; there are `counts` (P,) of them in each.
    """

    inputs: Inputs
    low: int
    high: int
    need: int
    pieces: np.ndarray
    counts: np.ndarray
    known: Callable[[Cut], None]


Question = Tie | Among


def answers(asked: Sequence[Cut | Question]) -> list[Cut]:
    """The cuts, in order; all questions must be of equally many inputs. `known` hears what was looked up."""
    found = list(asked)
    _answer_ties([(i, x) for i, x in enumerate(asked) if isinstance(x, Tie)], found)
    _answer_among([(i, x) for i, x in enumerate(asked) if isinstance(x, Among)], found)
    return found


def _answer_ties(ties: Sequence[tuple[int, Tie]], found: list[Cut]) -> None:
    if not ties:
        return
    rows = np.array([(q, tie.start, tie.stop) for q, (_, tie) in enumerate(ties)], np.int64)
    bits, nths = np.array([tie.bits for _, tie in ties], np.uint32), np.array([tie.nth for _, tie in ties], np.int64)
    places = np.empty(len(ties), np.int64)
    run(places_of, rows, *_columns([tie.inputs for _, tie in ties]), bits, nths, places)
    for (i, tie), place in zip(ties, places.tolist(), strict=True):
        found[i] = Cut(tie.bits, place + 1)
        tie.known(found[i])


def _answer_among(questions: Sequence[tuple[int, Among]], found: list[Cut]) -> None:
    if not questions:
        return
    asked = [x for _, x in questions]
    limits = np.array([(x.low, x.high) for x in asked], np.uint32)
    needs = np.array([x.need for x in asked], np.int64)
    which = np.repeat(np.arange(len(asked)), [len(x.counts) for x in asked])
    rows = np.column_stack((which, np.concatenate([x.pieces for x in asked])))
    counts = np.concatenate([x.counts for x in asked]).astype(np.int64)
    ends = np.cumsum(counts)
    bits, indices = np.empty(ends[-1], np.uint32), np.empty(ends[-1], np.int64)
    run(members, rows, *_columns([x.inputs for x in asked]), limits, ends - counts, bits, indices)
    stops = ends[np.searchsorted(which, np.arange(len(asked)), side="right") - 1]
    own = np.column_stack((np.arange(len(asked)), np.concatenate(([0], stops[:-1])), stops))
    cuts, bounds = np.empty(len(asked), np.uint32), np.empty(len(asked), np.int64)
    run(cuts_among, own, bits, indices, limits, needs, cuts, bounds)
    for (i, x), *cut in zip(questions, cuts.tolist(), bounds.tolist(), strict=True):
        found[i] = Cut(*cut)
        x.known(found[i])


def _columns(inputs: Sequence[Inputs]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sources = np.array([x.source for x in inputs], np.int64)
    return np.stack([x.at for x in inputs]), np.stack([x.kinds for x in inputs]), sources
