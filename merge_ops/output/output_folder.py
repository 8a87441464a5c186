"""Checks of the folder that a checkpoint is written to."""

from __future__ import annotations

from pathlib import Path

from mergesmith.errors import UserError


def check_output_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that a checkpoint may be written to a folder: it is absent, empty, or an old checkpoint to overwrite.

    Raises:
        UserError: it holds something else, or a checkpoint and `overwrite` is False.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not overwrite:
        raise UserError(f"output folder {folder} exists and is not empty; name another one or give --overwrite")
    # Overwriting removes the whole folder, so it must be a checkpoint.
    if not (folder / "config.json").is_file():
        raise UserError(f"output folder {folder} is not a checkpoint (no config.json); it is not overwritten")
