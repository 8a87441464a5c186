"""Scores of baselines that are kept from one run to the next, in the user's cache folder.

A file is found by the digest of everything that item scores depend on (`ScoredAs`), and contains all of it: models,
recipe, tasks, items in their blocks, scorers, dtype, device, threads and versions, this package's code included. If
any of it differs, the scores are computed. A file that cannot be read, or whose values do not have the digest that it
contains, counts as missing. Runs with Python objectives keep nothing, because their code may depend on anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...evaluators import ItemScores, Part, Scores
from ...merge_ops import Recipe, cache_folder, write_cached
from ..run_folder.trial import Trial
from ..session.scored_as import ScoredAs

KEY, SUM = "key", "sha256"
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, UnicodeDecodeError)


class BaselineCache:
    """The item scores of baselines, by what they depend on."""

    def __init__(self, scored_as: ScoredAs) -> None:
        self.scored_as = scored_as

    def load(self, recipe: Recipe, part: Part) -> Scores | None:
        """Return the scores of a recipe on a part; None if they are not in the cache."""
        key = self.scored_as.key(recipe, part)
        with suppress(*UNREADABLE), _file(key).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
            if str(arrays.pop(KEY)) == key and str(arrays.pop(SUM)) == _sum(arrays):
                return Scores(part, _items(arrays))
        return None

    def save(self, recipe: Recipe, scores: Scores) -> None:
        """Keep the scores of a recipe on a part; if the folder cannot be written, they are not kept."""
        key = self.scored_as.key(recipe, scores.part)
        arrays = _arrays(scores)
        data = io.BytesIO()
        np.savez_compressed(data, **arrays, **{KEY: np.array(key), SUM: np.array(_sum(arrays))})  # type: ignore[arg-type]
        with suppress(OSError, RuntimeError):
            write_cached(_file(key), data.getvalue())


def reuse_sentence(trials: Iterable[Trial]) -> str:
    """Return what the user should know of scores from earlier runs; "" if there are none."""
    reused = sum(trial.reused for trial in trials)
    if not reused:
        return ""
    scores = "the scores of 1 baseline are" if reused == 1 else f"the scores of {reused} baselines are"
    return (
        f"{scores} those of an earlier run with the same models, tasks and versions "
        "(search.reuse_baselines: false computes them again)"
    )


def _file(key: str) -> Path:
    return cache_folder("scores") / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def _arrays(scores: Scores) -> dict[str, np.ndarray]:
    """Return the arrays of a part's scores; the names begin with the number of the leaf."""
    arrays = {"leaves": np.array(json.dumps(list(scores.items)))}
    for number, items in enumerate(scores.items.values()):
        arrays[f"{number}/ids"] = np.array(items.ids, dtype=np.str_)
        arrays[f"{number}/values"] = items.values
        if items.facts is not None:
            arrays[f"{number}/facts"] = items.facts
        for name, values in items.by_filter.items():
            arrays[f"{number}/by_filter/{name}"] = values
    return arrays


def _items(arrays: Mapping[str, np.ndarray]) -> dict[str, ItemScores]:
    found: dict[str, ItemScores] = {}
    for number, leaf in enumerate(json.loads(str(arrays["leaves"]))):
        prefix = f"{number}/by_filter/"
        others = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        ids = tuple(arrays[f"{number}/ids"].tolist())
        found[leaf] = ItemScores(ids, arrays[f"{number}/values"], arrays.get(f"{number}/facts"), others)
    return found


def _sum(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
