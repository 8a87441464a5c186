"""`mergesmith export`: writes any trial's recipe, or its task vector as a checkpoint, from the run's folder alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from mergesmith.errors import UserError

from ...merge_ops import ModelBank, Recipe, Setting, Source, parse_recipe, read_recipe, write_merge
from ..run_folder.atomic_files import write_text
from ..run_folder.file_names import BEST
from ..run_folder.provenance import absolute_names
from ..run_folder.run_folder import RunFolder
from ..run_folder.trial import scores_document

Form = Literal["recipe", "task-vector"]
WEIGHTS, TASK_VECTOR_RECIPE = "weights", "recipe.yaml"


def run_export(
    path: Path, number: int | None, target: Path | None, *, form: Form, trust_remote_code: bool = False
) -> None:
    """Write a trial's recipe or task vector to `target`, or print the recipe if there is no target.

    Raises:
        UserError: see `exported_recipe` and `export_task_vector`; or a task vector was given no target.
    """
    if form == "task-vector":
        if target is None:
            raise UserError("--as task-vector writes a folder: name it after the run, or with --output")
        written = export_task_vector(path, number, target, trust_remote_code=trust_remote_code)
        print(f"wrote {written}; mergekit-yaml and mergesmith merge run it")
        return
    text = exported_recipe(path, number)
    if target is None:
        print(text, end="")
    else:
        write_text(target, text)


def present_recipe(recipe: Recipe, run_folder: RunFolder) -> Recipe:
    """Return a recipe of a run with the present paths of its models, which may have moved with the run."""
    return recipe.renamed({reference: run_folder.here(reference) for reference in recipe.references()})


def exported_recipe(path: Path, number: int | None) -> str:
    """Return the YAML of a trial's recipe; of the run's best.yaml if `number` is None.

    Raises:
        UserError: there is no run, no such trial, or no winner yet.
    """
    run_folder = RunFolder.open(path)
    if number is None:
        if not (path / BEST).is_file():
            raise UserError(f"{path} has no {BEST} yet: the run is not finished; name a trial with --trial")
        best = read_recipe(path / BEST)
        present = present_recipe(best, run_folder)
        return (path / BEST).read_text(encoding="utf-8") if present == best else present.to_yaml()
    trials = {trial.number: trial for trial in run_folder.trials()}
    if number not in trials:
        raise UserError(f"{path} has no trial {number}; it has {len(trials)} trials, up to {max(trials, default=0)}")
    trial = trials[number]
    facts: dict[str, Any] = {
        "found_by": {"run": str(path.resolve()), "trial": number, "name": trial.label},
        "scores": {"search": {"objective": trial.value, "tasks": scores_document(trial.scores)}},
    }
    if trial.dropped:
        facts["note"] = "The scores are estimates: the candidate was dropped after a part of its items."
    return replace(trial.recipe.renamed(absolute_names(trial.recipe, (run_folder.root,))), facts=facts).to_yaml()


def export_task_vector(path: Path, number: int | None, folder: Path, *, trust_remote_code: bool = False) -> Path:
    """Write a trial's merge as a task vector that stock mergekit can add to the base; return the recipe's path.

    Checkpoints cannot hold differences, so `folder`/weights holds base + task vector in float32, and
    `folder`/recipe.yaml is task_arithmetic with weight 1 over it: mergekit subtracts the base and adds it again. A
    weight other than 1 scales the task vector.

    Raises:
        UserError: see `exported_recipe`; or the recipe has no base model, or not as many layers as its base.
    """
    recipe = parse_recipe(exported_recipe(path, number), where=f"{path}: recipe")
    if recipe.base_model is None:
        raise UserError(f"{recipe.merge_method} without a base_model has no task vector")
    bank = ModelBank(recipe.references(), trust_remote_code=trust_remote_code)
    _check_depth(recipe, bank)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"output folder {folder} exists and is not empty; name another one")
    written = write_merge(replace(recipe, out_dtype="float32"), bank, folder / WEIGHTS)
    plain = Recipe(
        "task_arithmetic",
        models=(Source(str(written.folder.resolve()), parameters={"weight": Setting.constant(1.0)}),),
        base_model=recipe.base_model,
        parameters={"normalize": Setting.constant(False), "lambda": Setting.constant(1.0)},
        dtype="float32",
        out_dtype=recipe.out_dtype or recipe.dtype,
        facts={"task_vector_of": {"recipe": recipe.to_document(), "weights_digest": written.digest}},
    )
    write_text(folder / TASK_VECTOR_RECIPE, plain.to_yaml())
    return folder / TASK_VECTOR_RECIPE


def _check_depth(recipe: Recipe, bank: ModelBank) -> None:
    assert recipe.base_model is not None, "Should not reach."
    layers = sum(stop - start for part in recipe.slices for start, stop in [part.sources[0].layer_range or (0, 0)])
    depth = bank[recipe.base_model].architecture.num_layers
    if recipe.slices and layers != depth:
        raise UserError(f"the recipe stacks {layers} layers and its base has {depth}: there is no task vector")
