"""The record of one scored candidate, and its line in trials.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ...evaluators import Score
from ...merge_ops import Recipe, recipe_from_document
from ...search_spaces import Params

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Look:
    """One decision whether a candidate is scored further.

    Attributes:
        items: how many of its items were scored by then.
        incumbent: the number of the trial that it was compared with in the last block.
        log_wealth: the natural logarithm of the wealth that was bet against it.
        drop: the decision.
    """

    items: int
    incumbent: int
    log_wealth: float
    drop: bool


@dataclass(frozen=True)
class LostAttempt:
    """One time that a candidate's worker was lost; the fields are those of `pools.Lost`."""

    worker: str
    place: str
    error: str
    seconds: float
    counts: bool


@dataclass(frozen=True)
class Trial:
    """A finished candidate.

    Attributes:
        number: its place in the run, baselines first, from 0.
        name: a baseline's name; empty for a candidate that the sampler proposed.
        params: its point of the search space; None for a baseline outside it, and `outside` says why.
        state: scored in full, dropped when it was known to be worse than the best so far, or failed.
        value: the objective on the search part; None for a failed trial.
        scores: entry name -> score on the search part. Of a dropped candidate value and scores are estimates.
        items: how many items were scored for it.
        answers: task -> fact -> its mean over the items, where answers are generated; see `audit.py`.
        smaller_batches: memory ran out, and blocks of it were scored with batches of half the size.
        looks: the decisions to go on with it or to drop it, in order.
        repeats: the number of the trial with the same recipe whose scores these are.
        error: why it failed; else None.
        after: how many trials had finished when it was asked for: with it the sampler's view can be rebuilt.
        worker: who scored it; empty for the driver's own process.
        lost: the attempts before this one that ended with the loss of their worker.
    """

    number: int
    recipe: Recipe
    state: Literal["complete", "dropped", "failed"]
    name: str = ""
    params: Params | None = None
    outside: str | None = None
    value: float | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)
    items: int = 0
    answers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    smaller_batches: bool = False
    looks: tuple[Look, ...] = ()
    repeats: int | None = None
    error: str | None = None
    after: int = 0
    worker: str = ""
    lost: tuple[LostAttempt, ...] = ()
    merge_seconds: float = 0.0
    score_seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether it was scored in full."""
        return self.state == "complete"

    @property
    def failed(self) -> bool:
        """Whether it could not be scored."""
        return self.state == "failed"

    @property
    def dropped(self) -> bool:
        """Whether it was given up when it was known to be worse than the best so far."""
        return self.state == "dropped"

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or f"trial {self.number} ({self.recipe.merge_method})"

    def to_line(self) -> str:
        """One line of JSON, without the line's end."""
        document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "number": self.number, "state": self.state}
        document |= {"name": self.name, "method": self.recipe.merge_method, "value": self.value}
        document["scores"] = scores_document(self.scores)
        document |= {"answers": self.answers, "smaller_batches": self.smaller_batches}
        document |= {"items": self.items, "repeats": self.repeats, "looks": [asdict(look) for look in self.looks]}
        document |= {"error": self.error, "params": self.params, "outside": self.outside, "after": self.after}
        document |= {"worker": self.worker, "lost": [asdict(attempt) for attempt in self.lost]}
        document["seconds"] = {"merge": round(self.merge_seconds, 4), "score": round(self.score_seconds, 4)}
        document["recipe_digest"] = self.recipe.digest
        document["recipe"] = self.recipe.to_document()
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Trial:
        """The record of a line; ValueError or KeyError where it is none."""
        document = json.loads(line)
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {document['schema_version']}, but this program reads {SCHEMA_VERSION}")
        return cls(
            number=document["number"],
            recipe=recipe_from_document(document["recipe"], where=f"trial {document['number']}", lenient=True),
            state=document["state"],
            name=document["name"],
            params=document["params"],
            outside=document["outside"],
            value=document["value"],
            scores={
                name: Score(score["value"], math.nan if score["stderr"] is None else score["stderr"], score["n"])
                for name, score in document["scores"].items()
            },
            items=document["items"],
            answers=document.get("answers", {}),
            smaller_batches=document.get("smaller_batches", False),
            looks=tuple(Look(**look) for look in document["looks"]),
            repeats=document["repeats"],
            error=document["error"],
            after=document["after"],
            worker=document.get("worker", ""),
            lost=tuple(LostAttempt(**attempt) for attempt in document.get("lost", ())),
            merge_seconds=document["seconds"]["merge"],
            score_seconds=document["seconds"]["score"],
        )


def scores_document(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Scores as JSON and YAML hold them; an unknown standard error is null."""
    return {
        name: {"value": s.value, "stderr": s.stderr if math.isfinite(s.stderr) else None, "n": s.n}
        for name, s in scores.items()
    }
