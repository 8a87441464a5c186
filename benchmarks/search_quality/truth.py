"""Per-item scores of recipes on a problem, computed once per recipe and kept on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mergesmith.evaluators import ItemScores, Part, Scores, ScoringPlan
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
        self.objective = Objective(self.entries)
        self._path = self.folder / "scores.jsonl"
        self._known: dict[tuple[str, str], list[list[float]]] = {}
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self._known[row["digest"], row["part"]] = row["values"]

    def items(self, part: Part) -> dict[str, tuple[str, ...]]:
        """Leaf -> ids of a part's items, in the order in which scores are kept."""
        content = self.session.suite.content
        return {leaf: tuple(map(str, sorted(content.document_ids(leaf, part)))) for leaf in content.leaves}

    def count(self, part: Part) -> int:
        """How many items a part has."""
        return sum(map(len, self.items(part).values()))

    def scores(self, recipe: Recipe, part: Part) -> Scores:
        """The per-item scores of a recipe on one part."""
        key = (_digest(recipe), part)
        ids = self.items(part)
        if key not in self._known:
            start = time.perf_counter()
            found = self.session.candidate.evaluate(recipe, part).items
            values = [_plain(found[leaf].values) for leaf in ids]
            row = {"digest": key[0], "part": part, "seconds": round(time.perf_counter() - start, 3), "values": values}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
            self._known[key] = values
        pairs = zip(ids.items(), self._known[key], strict=True)
        return Scores(part, {leaf: ItemScores(names, np.array(values, dtype=float)) for (leaf, names), values in pairs})

    def value(self, recipe: Recipe, parts: Iterable[Part] = UNSEEN) -> float:
        """The objective of a recipe over all items of these parts."""
        return self.objective.value(scores_of(self.entries, pooled([self.scores(recipe, part) for part in parts])))

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


def _digest(recipe: Recipe) -> str:
    """The recipe's digest; the seed of masks counts only for methods that draw some."""
    return (recipe if METHODS[recipe.merge_method].random else replace(recipe, seed=0)).digest


def _plain(values: np.ndarray) -> list[Any]:
    return [int(v) if v in (0.0, 1.0) else float(v) for v in values]
