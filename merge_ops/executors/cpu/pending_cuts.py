"""Cuts that are known but for a look at the tensor; all those of a batch of tensors are looked up together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..mask_cuts import Cut
from .cut_kernels import cuts_among, members, places_of
from .launch import run
from .load_store import BFLOAT16, CODES, STRIPS, likes

COLLECTED = 1 << 20  # elements after which no further question is answered together with those before, 12 bytes each


class Inputs(NamedTuple):
    """Addresses and dtypes, int64, of a base and the sources whose task vectors are asked about; see magnitudes.py."""

    at: np.ndarray
    kinds: np.ndarray

    @property
    def typed(self) -> tuple[Any, ...]:
        """What kernels take: with the two, `form`, and tuples of as many float32 and int64."""
        return (
            *self,
            BFLOAT16 if (self.kinds == CODES[torch.bfloat16]).all() else STRIPS,
            *likes(self.kinds.shape[-1]),
        )


@dataclass(eq=False)
class Tie:
    """A cut of which all but the index is known: that of the nth element (from 1) of its magnitude in [start, stop)."""

    inputs: Inputs
    bits: int
    start: int
    stop: int
    nth: int
    known: Callable[[Cut], None]
    answer: Cut | None = None


@dataclass(eq=False)
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
    answer: Cut | None = None


Question = Tie | Among


def answers(asked: Sequence[Cut | Question]) -> list[Cut]:
    """The cuts, in order; all questions must be of equally many inputs. `known` hears what was looked up."""
    _answer_ties([x for x in asked if isinstance(x, Tie) and x.answer is None])
    few, size = [], 0
    for x in asked:
        if isinstance(x, Among) and x.answer is None:
            few.append(x)
            size += int(x.counts.sum())
            if size > COLLECTED:
                _answer_among(few)
                few, size = [], 0
    _answer_among(few)
    return [_cut(x) for x in asked]


def _cut(x: Cut | Question) -> Cut:
    if isinstance(x, Cut):
        return x
    assert x.answer is not None, "Should not reach."
    return x.answer


def _tell(questions: Sequence[Question], bits: Sequence[int], bounds: Sequence[int]) -> None:
    for x, *cut in zip(questions, bits, bounds, strict=True):
        x.answer = Cut(*cut)
        x.known(x.answer)


def _answer_ties(ties: Sequence[Tie]) -> None:
    if not ties:
        return
    rows = np.array([(q, tie.start, tie.stop) for q, tie in enumerate(ties)], np.int64)
    bits, nths = np.array([tie.bits for tie in ties], np.uint32), np.array([tie.nth for tie in ties], np.int64)
    places = np.empty(len(ties), np.int64)
    run(places_of, rows, *_stacked([tie.inputs for tie in ties]).typed, bits, nths, places)
    _tell(ties, bits.tolist(), (places + 1).tolist())


def _answer_among(questions: Sequence[Among]) -> None:
    if not questions:
        return
    limits = np.array([(x.low, x.high) for x in questions], np.uint32)
    needs = np.array([x.need for x in questions], np.int64)
    which = np.repeat(np.arange(len(questions)), [len(x.counts) for x in questions])
    rows = np.column_stack((which, np.concatenate([x.pieces for x in questions])))
    counts = np.concatenate([x.counts for x in questions]).astype(np.int64)
    ends = np.cumsum(counts)
    bits, indices = np.empty(ends[-1], np.uint32), np.empty(ends[-1], np.int64)
    run(members, rows, *_stacked([x.inputs for x in questions]).typed, limits, ends - counts, bits, indices)
    stops = ends[np.searchsorted(which, np.arange(len(questions)), side="right") - 1]
    own = np.column_stack((np.arange(len(questions)), np.concatenate(([0], stops[:-1])), stops))
    cuts, bounds = np.empty(len(questions), np.uint32), np.empty(len(questions), np.int64)
    run(cuts_among, own, bits, indices, limits, needs, cuts, bounds)
    _tell(questions, cuts.tolist(), bounds.tolist())


def _stacked(inputs: Sequence[Inputs]) -> Inputs:
    return Inputs(np.stack([x.at for x in inputs]), np.stack([x.kinds for x in inputs]))
