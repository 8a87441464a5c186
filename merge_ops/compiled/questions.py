"""Cuts that are known but for a look at the tensor; all those of a batch of tensors are looked up together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..masks import Cut
from .launch import run
from .lookups import cuts_among, members, places_of
from .strips import BFLOAT16, STRIPS, likes


class Inputs(NamedTuple):
    """Addresses and dtypes, int64, of a base and the sources whose task vectors are asked about; see magnitudes.py."""

    at: np.ndarray
    kinds: np.ndarray

    @property
    def typed(self) -> tuple[Any, ...]:
        """What kernels take: with the two, `form`, and tuples of as many float32 and int64."""
        return (*self, BFLOAT16 if not self.kinds.any() else STRIPS, *likes(self.kinds.shape[-1]))


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
    run(places_of, rows, *_stacked([tie.inputs for _, tie in ties]).typed, bits, nths, places)
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
    run(members, rows, *_stacked([x.inputs for x in asked]).typed, limits, ends - counts, bits, indices)
    stops = ends[np.searchsorted(which, np.arange(len(asked)), side="right") - 1]
    own = np.column_stack((np.arange(len(asked)), np.concatenate(([0], stops[:-1])), stops))
    cuts, bounds = np.empty(len(asked), np.uint32), np.empty(len(asked), np.int64)
    run(cuts_among, own, bits, indices, limits, needs, cuts, bounds)
    for (i, x), *cut in zip(questions, cuts.tolist(), bounds.tolist(), strict=True):
        found[i] = Cut(*cut)
        x.known(found[i])


def _stacked(inputs: Sequence[Inputs]) -> Inputs:
    return Inputs(np.stack([x.at for x in inputs]), np.stack([x.kinds for x in inputs]))
