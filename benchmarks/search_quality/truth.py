"""Per-item scores of recipes on a problem, computed once per recipe and kept on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mergesmith.evaluators import ItemScores, Part, Score, Scores, ScoringPlan, entry_value
from mergesmith.merge_ops import METHODS, Recipe
from mergesmith.optimizer.config import load_config
from mergesmith.optimizer.search.objective import Objective, scores_of
from mergesmith.optimizer.session.load_sources import load_quietly
from mergesmith.optimizer.session.session import Session

UNSEEN: tuple[Part, ...] = ("select", "report")  # no search chooses its candidates by these


class Truth:
    """Scores recipes through the project's session; `folder` is the problem's, and holds `scores.jsonl`."""

    def __init__(self, search: Path) -> None:
        self.folder = search.parent
        self.session = Session(load_config(search), self.folder)
        load_quietly(self.session)
        self._settle_scorers()
        self.entries = self.session.suite.entries
        self._path = self.folder / "scores.jsonl"
        self._known: dict[tuple[str, str], list[list[float]]] = {}
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self._known[row["digest"], row["part"]] = row["values"]
        self._objective = self.objective_on(UNSEEN)

    def objective_on(self, parts: Iterable[Part]) -> Objective:
        """Return the objective with the scales and limits that the parents' scores on these parts give."""
        parents = [recipe for name, recipe in self.session.baselines if name.startswith("parent ")]
        scores = (pooled([self.scores(recipe, part) for part in parts]) for recipe in parents)
        return Objective.fixed_by(self.entries, [scores_of(self.entries, one) for one in scores])

    def items(self, part: Part) -> dict[str, tuple[str, ...]]:
        """Leaf -> ids of a part's items, in the order in which scores are kept."""
        content = self.session.suite.content
        return {leaf: tuple(map(str, sorted(content.document_ids(leaf, part)))) for leaf in content.leaves}

    def count(self, part: Part) -> int:
        """How many items a part has."""
        return sum(map(len, self.items(part).values()))

    def scores(self, recipe: Recipe, part: Part) -> Scores:
        """Return the per-item scores of a recipe on one part."""
        digest = recipe_digest(recipe)
        if (digest, part) not in self._known:
            start = time.perf_counter()
            found = self.session.candidate.evaluate(recipe, part).items
            values = [_plain(found[leaf].values) for leaf in self.items(part)]
            row = {"digest": digest, "part": part, "seconds": round(time.perf_counter() - start, 3), "values": values}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
            self._known[digest, part] = values
        return self.stored(digest, part)

    def stored(self, digest: str, part: Part) -> Scores:
        """Return the scores of a recipe that has been scored.

        Raises:
            KeyError: it has not been scored on this part.
        """
        pairs = zip(self.items(part).items(), self._known[digest, part], strict=True)
        return Scores(part, {leaf: ItemScores(ids, np.array(values, dtype=float)) for (leaf, ids), values in pairs})

    def value(self, recipe: Recipe, parts: Iterable[Part] = UNSEEN) -> float:
        """Return the objective of a recipe over all items of these parts."""
        return self.objective_value(pooled([self.scores(recipe, part) for part in parts]))

    def objective_value(self, scores: Scores, indices: Mapping[str, np.ndarray] | None = None) -> float:
        """Return the objective of scores, less what a task is beyond its limit.

        `indices` maps a task to (m,) indices of the items that count; None, all.
        """
        values = {entry.name: Score(entry_value(entry, scores, indices), np.nan, 0) for entry in self.entries}
        excess = sum(max(0.0, violation) for violation in self._objective.violations(values).values())
        return self._objective.value(values) - excess

    def seconds_per_candidate(self) -> float:
        """The median time of merging and scoring a candidate on the search items."""
        rows = [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]
        return float(np.median([row["seconds"] for row in rows if row["part"] == "search"] or [np.nan]))

    def _settle_scorers(self) -> None:
        path = self.folder / "scorers.json"
        if path.is_file():
            self.session.suite.use(ScoringPlan.from_document(json.loads(path.read_text(encoding="utf-8"))))
        else:
            plan = self.session.check_scorers().plan
            path.write_text(json.dumps(plan.to_document()), encoding="utf-8")


def pooled(scores: Iterable[Scores]) -> Scores:
    """The scores of several parts as if they were one; ids are prefixed with their part."""
    found: dict[str, list[tuple[tuple[str, ...], np.ndarray]]] = {}
    for one in scores:
        for leaf, items in one.items.items():
            found.setdefault(leaf, []).append((tuple(f"{one.part} {i}" for i in items.ids), items.values))
    return Scores(
        "report",
        {
            leaf: ItemScores(tuple(i for ids, _ in pieces for i in ids), np.concatenate([v for _, v in pieces]))
            for leaf, pieces in found.items()
        },
    )


def recipe_digest(recipe: Recipe) -> str:
    """Return the recipe's digest; the seed of masks counts only for methods that draw some."""
    return (recipe if METHODS[recipe.merge_method].random else replace(recipe, seed=0)).digest


def _plain(values: np.ndarray) -> list[Any]:
    """Return the values for JSON, those of accuracies as short as possible."""
    return [int(v) if v in (0.0, 1.0) else v for v in values.tolist()]
