"""Per-item scores on disk: one .npz per trial and part, and one file of item ids per distinct set of items.

An array of small non-negative integers (0/1 scores, counts) is stored in the smallest unsigned integer type that holds
it, any other array in float64; both are read back as identical float64 values. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mergesmith.errors import UserError

from ...evaluators import ItemScores, Part, Scores

Ids = Mapping[str, tuple[str, ...]]  # leaf -> the ids of its items
Write = Callable[[Path, bytes], None]
SMALL = (np.uint8, np.uint16, np.uint32)
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class ItemStore:
    """The folder of a run's per-item scores; `write(path, data)` replaces a file."""

    def __init__(self, folder: Path, write: Write) -> None:
        self.folder, self.write = folder, write
        self._known: dict[str, Ids] = {}  # by digest

    def save(self, number: int, scores: Scores) -> None:
        """Write the scores of a trial on one part; they may cover only some of its items."""
        arrays: dict[str, np.ndarray] = {"ids": np.array(self._save_ids(scores))}
        for leaf, items in scores.items.items():
            arrays[f"{leaf}/values"] = smallest(items.values)
            if items.facts is not None:
                arrays[f"{leaf}/facts"] = smallest(items.facts)
        self.write(self._path(number, scores.part), _packed(arrays))

    def load(self, number: int, part: Part) -> Scores | None:
        """Return the scores of a trial on a part; None if it was not scored there.

        Raises:
            UserError: a file is damaged, or the file of the items' ids is missing.
        """
        path = self._path(number, part)
        if not path.is_file():
            return None
        arrays = _unpacked(path)
        ids = self._load_ids(str(arrays["ids"]))
        items = {}
        for leaf, names in ids.items():
            facts = arrays.get(f"{leaf}/facts")
            values = arrays[f"{leaf}/values"].astype(np.float64)
            items[leaf] = ItemScores(names, values, None if facts is None else facts.astype(np.float64))
        return Scores(part, items)

    def _path(self, number: int, part: Part) -> Path:
        suffix = "" if part == "search" else f"-{part}"
        return self.folder / f"{number:04d}{suffix}.npz"

    def _ids_path(self, digest: str) -> Path:
        return self.folder / f"ids-{digest}.npz"

    def _save_ids(self, scores: Scores) -> str:
        ids = {leaf: items.ids for leaf, items in scores.items.items()}
        digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:32]
        if digest not in self._known and not self._ids_path(digest).is_file():
            arrays = {f"{leaf}/ids": np.array(names, dtype=np.str_) for leaf, names in ids.items()}
            self.write(self._ids_path(digest), _packed(arrays))
        self._known[digest] = ids
        return digest

    def _load_ids(self, digest: str) -> Ids:
        if digest not in self._known:
            arrays = _unpacked(self._ids_path(digest))
            self._known[digest] = {key.removesuffix("/ids"): tuple(names.tolist()) for key, names in arrays.items()}
        return self._known[digest]


def smallest(values: np.ndarray) -> np.ndarray:
    """Return the values in the smallest unsigned integer type that holds them all, or unchanged."""
    whole = bool(((values >= 0) & (values == np.floor(values)) & ~np.signbit(values)).all())  # NaN is not whole
    top = float(values.max(initial=0.0)) if whole else np.inf
    return next((values.astype(dtype) for dtype in SMALL if top <= np.iinfo(dtype).max), values)


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _unpacked(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except DAMAGED as error:
        raise UserError(f"{path} is damaged or missing: {type(error).__name__}: {error}") from None
