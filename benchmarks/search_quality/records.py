"""The outcome of one search, and the file of all outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One finished search on one problem.

    Attributes:
        problem: the name of the problem's folder, which holds a digest of the problem's numbers.
        arm: what searched; see `arms.py`.
        trials: the arm's budget in proposals.
        seed: of the search.
        steps: (item scores spent so far, true score) of each new incumbent.
        recipe: digest of the last incumbent's recipe, by which its item scores are found.
        items: item scores spent in all, baselines included.
        winner: the true score on report items of the candidate that the verdict names; None without a verdict.
        claims: the verdict calls the winner better than something else; None without a verdict.
        seconds: wall time of the search; None where scores were replayed.
    """

    problem: str
    arm: str
    trials: int
    seed: int
    steps: tuple[tuple[int, float], ...]
    recipe: str
    items: int
    winner: float | None = None
    claims: bool | None = None
    seconds: float | None = None

    @property
    def final(self) -> float:
        """The true score of the last incumbent."""
        return self.steps[-1][1]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What identifies the search."""
        return self.problem, self.arm, self.trials, self.seed

    def reached(self, value: float) -> int | None:
        """Item scores spent when the incumbent's true score first was at least `value`; None if it never was."""
        return next((items for items, truth in self.steps if truth >= value), None)


class Outcomes:
    """Outcomes in a file of JSON lines; of two with the same key the later line counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[tuple[str, str, int, int], Outcome] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                outcome = _outcome(json.loads(line))
                self.found[outcome.key] = outcome

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, on disk at once."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        self.found[outcome.key] = outcome

    def of(self, problem: str, arm: str) -> list[Outcome]:
        """An arm's outcomes on a problem, by seed."""
        return sorted((o for o in self.found.values() if (o.problem, o.arm) == (problem, arm)), key=lambda o: o.seed)


def _outcome(document: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**document, "steps": tuple((items, truth) for items, truth in document["steps"])})
