"""`mergesmith items`: shows which items separate a run's candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mergesmith.errors import UserError

from ...evaluators import Part
from ..run_folder.item_matrix import ItemMatrix
from ..run_folder.run_folder import RunFolder
from ..terminal.tables import items_table


def items_document(path: Path, part: Part) -> list[dict[str, Any]]:
    """Return every item of a part with its mean score and how well it separates the candidates.

    Raises:
        UserError: as `print_items`.
    """
    matrix = _matrix(path, part)
    alike, telling = matrix.alike(), matrix.telling()
    return [
        {
            "task": matrix.leaves[i],
            "item": matrix.ids[i],
            "scores": int(np.isfinite(matrix.values[:, i]).sum()),
            "mean": float(np.nanmean(matrix.values[:, i])),
            "same_for_all": bool(alike[i]),
            "correlation": float(telling[i]),
        }
        for i in range(len(matrix.ids))
    ]


def print_items(path: Path, part: Part, most: int, console: Console) -> None:
    """Print how well the items of a part separate the candidates, naming the `most` best ones per task.

    Raises:
        UserError: there is no run, or no candidate was scored on the part.
    """
    console.print(items_table(_matrix(path, part), most))


def _matrix(path: Path, part: Part) -> ItemMatrix:
    matrix = ItemMatrix.load(RunFolder.open(path), part)
    if not matrix.ids:
        raise UserError(f"{path} has no scores per item on the {part} items yet")
    return matrix
