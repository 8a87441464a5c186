"""Checks of a command's recipe that need no torch, so that faults are reported within a second."""

from __future__ import annotations

from pathlib import Path

from mergesmith.errors import Faults

from ....merge_ops import Recipe, check_output_folder, check_reference, read_recipe


def checked_recipe(path: Path, out: Path, *, lenient: bool, overwrite: bool) -> Recipe:
    """Return a recipe that is to be merged into the folder `out`, after checking that its models are there.

    Raises:
        UserError: the recipe is invalid, its models are missing, or the folder is in use; all faults are listed.
    """
    recipe = read_recipe(path, lenient=lenient)
    check_models(recipe, path)
    check_output_folder(out, overwrite=overwrite)
    return recipe


def check_models(recipe: Recipe, path: Path) -> None:
    """Check that the models of a recipe that was read from `path` exist.

    Raises:
        UserError: some do not; all of them are listed.
    """
    faults = Faults(str(path))
    for reference in recipe.references():
        with faults.collecting():
            check_reference(reference, (Path.cwd(), path.parent))
    faults.raise_if_any()


def check_target(target: str) -> None:
    """Check that the target of `eval` is a readable recipe, a folder, or the name of a model on the hub.

    Raises:
        UserError: it is none of them.
    """
    path = Path(target)
    if path.is_file():
        check_models(read_recipe(path), path)
    else:
        check_reference(target, (Path.cwd(),))
