"""Writes the files of a merged model beside its weights: configuration, recipe, tokenizer, processors, Python code."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

from mergesmith.errors import UserError

from ..bank.model_bank import ModelBank
from ..checkpoints.checkpoint_warning import CheckpointWarning
from ..checkpoints.code_files import code_files, generation_code
from ..checkpoints.find_model import absolute_reference
from ..checkpoints.tokenizer_files import TOKENIZER_CONFIG, has_tokenizer
from ..planning.merge_plan import MergePlan
from ..planning.output_config import merged_config
from ..recipes.chat_templates import AUTO_TEMPLATE
from ..recipes.recipe import Recipe
from ..vocabulary.chat_template import requested_template
from ..vocabulary.output_tokenizer import write_tokenizer
from ..vocabulary.output_vocabulary import tokenizer_model
from ..vocabulary.token_ids import CONFIG, GENERATION, output_generation_config

DONOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
RECIPE_FILE = "mergekit_config.yml"  # the file name that other tools expect for a merge's recipe


def write_companions(plan: MergePlan, bank: ModelBank, folder: Path) -> None:
    """Write config.json, the recipe, generation_config.json and the donor's processor files into `folder`."""
    config = merged_config(plan, bank)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / RECIPE_FILE).write_text(_absolute(plan.asked, bank).to_yaml(), encoding="utf-8")
    donor = bank[plan.donor].folder
    for name in DONOR_FILES:
        if (donor / name).is_file():
            shutil.copyfile(donor / name, folder / name)
    _write_generation_config(plan, bank, folder)


def _absolute(recipe: Recipe, bank: ModelBank) -> Recipe:
    """Return the recipe with absolute paths, which name the same models from every folder; hub ids stay."""
    return recipe.renamed({reference: absolute_reference(reference, bank.roots) for reference in recipe.references()})


def _write_generation_config(plan: MergePlan, bank: ModelBank, folder: Path) -> None:
    source = bank[plan.donor].folder / GENERATION
    document = output_generation_config(plan.donor, plan.vocabulary, bank)
    if document is None:
        return
    if source.is_file() and document == json.loads(source.read_text(encoding="utf-8")):
        shutil.copyfile(source, folder / GENERATION)
    else:
        (folder / GENERATION).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def write_tokenizer_files(plan: MergePlan, bank: ModelBank, folder: Path, *, copy: bool) -> None:
    """Write the tokenizer into `folder`; without `copy` only if the recipe gives the output a vocabulary."""
    if not _has_tokenizer_files(plan, copy=copy):
        if plan.recipe.chat_template is not None:
            _warn("chat_template has no effect, because no tokenizer is written (--no-copy-tokenizer)")
        return
    write_tokenizer(plan.recipe, bank, folder)
    if bank[plan.donor].architecture.vocabulary and not has_tokenizer(folder):
        model = tokenizer_model(plan.recipe)
        _warn(f"model '{model}' has no tokenizer files in {bank[model].tokenizer_folder}, so the output has none")
    if plan.recipe.chat_template == AUTO_TEMPLATE and requested_template(plan.recipe, bank) is None:
        _warn("chat_template: auto has no effect, because no model has a chat template")


def code_of_output(plan: MergePlan, bank: ModelBank, *, copy_tokenizer: bool) -> dict[str, Path]:
    """Return the Python files that the output needs to be loaded with `trust_remote_code`, by relative name.

    They are needed although merging needs no code if transformers has the model too, since config.json names them.

    Raises:
        UserError: the code of the model and that of the tokenizer have different files of one name.
    """
    donor = bank[plan.donor].folder
    code = {**code_files(donor, (CONFIG, *DONOR_FILES)), **generation_code(donor)}
    if not _has_tokenizer_files(plan, copy=copy_tokenizer):
        return code
    model = tokenizer_model(plan.recipe)
    for name, path in code_files(bank[model].tokenizer_folder, (TOKENIZER_CONFIG,)).items():
        if name in code and code[name].read_bytes() != path.read_bytes():
            raise UserError(
                f"the code of '{plan.donor}' and that of the tokenizer of '{model}' have different files {name}, and "
                "the output can have one; take tokenizer and config.json from one model (tokenizer_source, base_model)"
            )
        code[name] = path
    return code


def _has_tokenizer_files(plan: MergePlan, *, copy: bool) -> bool:
    # As in mergekit, a vocabulary of the recipe is always written: the embeddings' rows belong to it.
    return copy or plan.vocabulary is not None


def _warn(message: str) -> None:
    warnings.warn(message, CheckpointWarning, stacklevel=4)
