"""The scorers of a task, fastest first, and the plan that names the scorers of a run."""

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
        name: "packed" and "rows" (see `rows.py`), "graphs" and "loop" (see `cuda_graphs.py` and `generate.py`), or
            "hf", lm-eval's HFLM.
        prefix: whether the prefix that all prompts share is read only once.
    """

    name: Literal["packed", "rows", "graphs", "loop", "hf"]
    prefix: bool = False

    def __str__(self) -> str:
        return f"{self.name}+prefix" if self.prefix else self.name

    @classmethod
    def parse(cls, text: str) -> Scorer:
        """Return the scorer named by a text such as "packed+prefix".

        Raises:
            ValueError: no scorer has this name.
        """
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
    """Return the scorers to try, in order; only variants of the one that the user forces.

    CUDA graphs are tried only if the user chooses "graphs".
    """
    candidates = tuple(scorer for scorer in _LADDERS[kind] if choice == "graphs" or scorer.name != "graphs")
    if choice == "hf":
        return (HF,)
    if choice in ("packed", "rows") and kind == "likelihood":
        return tuple(scorer for scorer in candidates if scorer.name == choice)
    return candidates


def kind_of(requests: Sequence[Request]) -> Kind:
    """Return the kind of requests that a task consists of."""
    kinds: set[Kind] = set()
    for request in requests:
        if request.pair is not None:
            kinds.add("likelihood")
        else:
            kinds.add("rolling" if request.tokens is not None else "generation")
    return kinds.pop() if len(kinds) == 1 else "mixed"


@dataclass(frozen=True)
class ScoringPlan:
    """The scorers and batch sizes of all candidates of a run.

    Attributes:
        scorers: leaf name -> its scorer.
        token_budget: the most tokens in a batch, padding included.
        batch_size: rows per batch of lm-eval's HFLM; None keeps the configured number.
        dtype: the dtype in which the scored model holds its weights; None for that of each candidate.
    """

    scorers: Mapping[str, Scorer]
    token_budget: int
    batch_size: int | None = None
    dtype: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the plan as a JSON document."""
        return {
            "token_budget": self.token_budget,
            "batch_size": self.batch_size,
            "dtype": self.dtype,
            "scorers": {leaf: str(scorer) for leaf, scorer in self.scorers.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ScoringPlan:
        """Return the plan of a document written by `to_document`."""
        scorers = {leaf: Scorer.parse(text) for leaf, text in document["scorers"].items()}
        return cls(scorers, document["token_budget"], document.get("batch_size"), document.get("dtype"))
