"""The ways to score a task, fastest first, and which of them a run has settled on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..config import ScorerChoice

if TYPE_CHECKING:
    from ..tasks.requests import Request

Kind = Literal["likelihood", "rolling", "generation", "mixed"]


@dataclass(frozen=True)
class Scorer:
    """One way to score a task.

    Attributes:
        name: "packed" and "rows" (see `rows.py`), "graphs" and "loop" (see `graphs.py` and `generate.py`), or "hf",
            lm-eval's own.
        prefix: whether the start that the prompts share is read once.
    """

    name: Literal["packed", "rows", "graphs", "loop", "hf"]
    prefix: bool = False

    def __str__(self) -> str:
        return f"{self.name}+prefix" if self.prefix else self.name

    @classmethod
    def parse(cls, text: str) -> Scorer:
        """The scorer of a text such as "packed+prefix"; ValueError where there is none."""
        name, _, prefix = text.partition("+")
        if name not in ("packed", "rows", "graphs", "loop", "hf"):
            raise ValueError(f"there is no scorer '{text}'")
        return cls(name, prefix == "prefix")  # type: ignore[arg-type]


HF = Scorer("hf")
_LADDERS: dict[Kind, tuple[Scorer, ...]] = {
    "likelihood": (Scorer("packed", True), Scorer("packed"), Scorer("rows"), HF),
    "rolling": (Scorer("rows"), HF),
    "generation": (Scorer("graphs", True), Scorer("graphs"), Scorer("loop", True), Scorer("loop"), HF),
    "mixed": (HF,),
}


def ladder(kind: Kind, choice: ScorerChoice) -> tuple[Scorer, ...]:
    """What to try, in this order; where the user forces a scorer, the forms of that one. "graphs" allows them."""
    found = tuple(scorer for scorer in _LADDERS[kind] if choice == "graphs" or scorer.name != "graphs")
    if choice == "hf":
        return (HF,)
    if choice in ("packed", "rows") and kind == "likelihood":
        return tuple(scorer for scorer in found if scorer.name == choice)
    return found


def kind_of(requests: Sequence[Request]) -> Kind:
    """What a task asks of the model."""
    kinds: set[Kind] = set()
    for request in requests:
        if request.pair is not None:
            kinds.add("likelihood")
        else:
            kinds.add("rolling" if request.tokens is not None else "generation")
    return kinds.pop() if len(kinds) == 1 else "mixed"


@dataclass(frozen=True)
class ScoringPlan:
    """What every candidate of a run is scored with.

    Attributes:
        scorers: leaf name -> its scorer.
        token_budget: the most tokens in a batch, padding included.
        batch_size: rows per batch of lm-eval's own scorer; None is what the suite was given.
    """

    scorers: Mapping[str, Scorer]
    token_budget: int
    batch_size: int | None = None

    def to_document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "token_budget": self.token_budget,
            "batch_size": self.batch_size,
            "scorers": {leaf: str(scorer) for leaf, scorer in self.scorers.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ScoringPlan:
        """The plan that `to_document` wrote."""
        scorers = {leaf: Scorer.parse(text) for leaf, text in document["scorers"].items()}
        return cls(scorers, document["token_budget"], document.get("batch_size"))
