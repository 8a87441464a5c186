"""The record of a finished candidate, and its line in trials.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ...evaluators import Score
from ...merge_ops import Recipe, recipe_from_document
from ...search_spaces import Params
from ..proposal import Proposal, Slopes

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Look:
    """One decision of racing: whether to continue scoring a candidate or to drop it.

    Attributes:
        items: the number of its items that had been scored.
        incumbent: number of the trial that it was compared with on the last block.
        log_wealth: natural logarithm of the wealth of the bets that it gains less than `least_gain` on the incumbent.
        drop: whether it was dropped.
        least_gain: the gain in the objective that would have been worth scoring it in full.
    """

    items: int
    incumbent: int
    log_wealth: float
    drop: bool
    least_gain: float = 0.0


@dataclass(frozen=True)
class LostAttempt:
    """An attempt to score a candidate that ended with the loss of its worker; the fields are those of `pools.Lost`."""

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
        params: its point of the search space; None for a baseline outside it.
        outside: why a baseline is not in the search space; else None.
        state: "complete" (scored in full), "dropped" (early, as no better than the best so far), "failed", or "probed"
            (a probe, which has no score).
        value: the objective on the search part; None for a failed trial.
        scores: entry name -> score on the search part. For a dropped candidate, value and scores are estimates.
        items: the number of items scored; for a probe, its cost in forward passes over an item, three per gradient.
        answers: task -> fact -> mean over the items, for tasks with generated answers; see `search/answer_audit.py`.
        smaller_batches: whether memory ran out and some blocks were scored in batches of half the size.
        looks: the decisions of racing, in order.
        repeats: number of the earlier trial with the same weights whose scores were reused; else None.
        reused: whether its scores were taken from an earlier run (baselines only); it has them all the same.
        error: why it failed; else None.
        after: the number of trials that had finished when it was proposed; the sampler's history follows from it.
        worker: name of the worker that scored it; empty for the driver's process.
        stage: the stage that proposed it; empty for samplers without stages.
        probe: what a probe computed, "loss" or "gradient"; empty for a candidate.
        slopes: the result of a probe.
        estimate: the value without shrinkage; None for a failed trial and if there was no incumbent.
        stderr: the standard error of the difference from the incumbent; None if there was none.
        lost: the earlier attempts that ended with the loss of their worker.
        merge_seconds: time to merge.
        score_seconds: time to score.
    """

    number: int
    recipe: Recipe
    state: Literal["complete", "dropped", "failed", "probed"]
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
    reused: bool = False
    error: str | None = None
    after: int = 0
    worker: str = ""
    lost: tuple[LostAttempt, ...] = ()
    stage: str = ""
    probe: Literal["", "loss", "gradient"] = ""
    offset: int = 0
    slopes: Slopes | None = None
    estimate: float | None = None
    stderr: float | None = None
    merge_seconds: float = 0.0
    score_seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether it was scored in full."""
        return self.state == "complete"

    @property
    def failed(self) -> bool:
        """Whether merging or scoring it raised an error."""
        return self.state == "failed"

    @property
    def dropped(self) -> bool:
        """Whether it was dropped early."""
        return self.state == "dropped"

    @property
    def proposal(self) -> Proposal:
        """The proposal that it came from; its point is empty for a baseline outside the space."""
        return Proposal(self.params or {}, self.stage, self.probe, self.offset)

    @property
    def label(self) -> str:
        """The name shown in tables."""
        return self.name or f"trial {self.number} ({self.recipe.merge_method})"

    def to_line(self) -> str:
        """Return the record as one line of JSON, without the line feed."""
        document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "number": self.number, "state": self.state}
        document |= {"name": self.name, "method": self.recipe.merge_method, "value": self.value}
        document["scores"] = scores_document(self.scores)
        document |= {"answers": self.answers, "smaller_batches": self.smaller_batches}
        document |= {"items": self.items, "repeats": self.repeats, "looks": [asdict(look) for look in self.looks]}
        document |= {"reused": self.reused, "error": self.error, "params": self.params, "outside": self.outside}
        document |= {"after": self.after, "worker": self.worker, "lost": [asdict(one) for one in self.lost]}
        document |= {"stage": self.stage, "probe": self.probe, "offset": self.offset}
        document |= {"slopes": None if self.slopes is None else asdict(self.slopes)}
        document |= {"estimate": self.estimate, "stderr": self.stderr}
        document["seconds"] = {"merge": round(self.merge_seconds, 4), "score": round(self.score_seconds, 4)}
        document["recipe_digest"] = self.recipe.digest
        document["recipe"] = self.recipe.to_document()
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Trial:
        """Return the record of a line.

        Raises:
            ValueError, KeyError, TypeError: the line is damaged, or has another schema version.
        """
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
            reused=document.get("reused", False),
            error=document["error"],
            after=document["after"],
            worker=document.get("worker", ""),
            lost=tuple(LostAttempt(**attempt) for attempt in document.get("lost", ())),
            stage=document.get("stage", ""),
            probe=document.get("probe", ""),
            offset=document.get("offset", 0),
            slopes=None if document.get("slopes") is None else Slopes(**document["slopes"]),
            estimate=document.get("estimate"),
            stderr=document.get("stderr"),
            merge_seconds=document["seconds"]["merge"],
            score_seconds=document["seconds"]["score"],
        )


def scores_document(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Return scores as plain values for JSON and YAML; an unknown standard error is None."""
    return {
        name: {"value": s.value, "stderr": s.stderr if math.isfinite(s.stderr) else None, "n": s.n}
        for name, s in scores.items()
    }


def items_spent(trials: Iterable[Trial]) -> int:
    """Return the item scores that proposals took, without baselines."""
    return sum(trial.items for trial in trials if not trial.name)
