"""Candidates from their proposal to their result; a finished candidate is recorded as a `Trial`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ...evaluators import BlockScores
from ...merge_ops import Recipe
from ...search_spaces import Params
from ..pools import BlockDone
from ..proposal import Proposal
from ..run_folder.trial import Trial
from .racing import Race


@dataclass(frozen=True)
class Candidate:
    """A proposed recipe that has no result yet.

    Attributes:
        number: its number in the run; baselines come first, from 0.
        params: its point in the search space; None for a baseline outside it.
        after: the number of trials that had finished when it was proposed.
        name: a baseline's name; empty for a proposal of the sampler.
        outside: why a baseline is outside the search space; else None.
        stage, probe, offset: as in `Proposal`.
    """

    number: int
    recipe: Recipe
    params: Params | None
    after: int
    name: str = ""
    outside: str | None = None
    stage: str = ""
    probe: Literal["", "loss", "gradient"] = ""
    offset: int = 0

    @property
    def proposal(self) -> Proposal:
        """The sampler's proposal of this candidate."""
        return Proposal(self.params or {}, self.stage, self.probe, self.offset)

    def trial(self, state: Literal["complete", "dropped", "failed", "probed"], **result: Any) -> Trial:
        """Return the record of this candidate with its result: the remaining fields of `Trial`."""
        return Trial(
            self.number,
            self.recipe,
            state,
            name=self.name,
            params=self.params,
            outside=self.outside,
            after=self.after,
            stage=self.stage,
            probe=self.probe,
            offset=self.offset,
            **result,
        )


@dataclass
class PendingCandidate:
    """A candidate that is being scored, with its blocks so far. `race` is None if it cannot be dropped."""

    candidate: Candidate
    race: Race | None
    blocks: list[BlockScores] = field(default_factory=list)
    merge_seconds: float = 0.0

    def add(self, block: BlockDone) -> None:
        """Add a scored block."""
        self.blocks.append(block.scores)
        self.merge_seconds = block.merge_seconds

    def facts(self) -> dict[str, Any]:
        """Return the fields of `Trial` that do not depend on the candidate's scores."""
        return {
            "items": sum(block_items(block) for block in self.blocks),
            "looks": () if self.race is None else tuple(self.race.looks),
            "smaller_batches": any(block.smaller_batches for block in self.blocks),
            "merge_seconds": self.merge_seconds,
            "score_seconds": sum(block.seconds for block in self.blocks),
        }


def block_items(block: BlockScores) -> int:
    """Return the number of items in a block."""
    return sum(len(items.ids) for items in block.items.values())
