"""Writes a merged model as a checkpoint folder, which appears under its name only once it is complete."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from mergesmith.errors import UserError

from ..bank.model_bank import ModelBank
from ..merging.merge_tensors import materialize_plan, output_spec
from ..merging.plan_recipe import plan_merge
from ..recipes.recipe import Recipe
from .companions import code_of_output, write_companions, write_tokenizer_files
from .finite_check import FiniteCheck
from .model_card import model_card
from .output_folder import check_output_folder
from .safetensors_writer import write_shards

Named = tuple[str, torch.Tensor]
DEFAULT_SHARD_SIZE = "5GB"
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


@dataclass(frozen=True)
class Written:
    """A written checkpoint: its folder and the digest of its weights."""

    folder: Path
    digest: str


def write_merge(
    recipe: Recipe,
    bank: ModelBank,
    folder: Path,
    *,
    max_shard_size: str = DEFAULT_SHARD_SIZE,
    overwrite: bool = False,
    copy_tokenizer: bool = True,
    write_card: bool = True,
    allow_nonfinite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Merge a recipe into a checkpoint folder: shards, index, config.json, tokenizer, model card, recipe.

    Only a few merged tensors are in memory at a time. `folder` does not exist until everything is on disk.
    `progress` is called with the numbers of merged tensors and of all.

    Raises:
        UserError: the sources are not compatible, `folder` exists and is not empty, writing fails, a merged tensor
            contains NaN or infinite values, or the code of two models has different files of one name.
        MergeError: the parameter values define no tensor.
    """
    limit = parse_size(max_shard_size)
    check_output_folder(folder, overwrite=overwrite)
    _check_sources_stay(folder, bank)
    plan = plan_merge(recipe, bank)
    code = code_of_output(plan, bank, copy_tokenizer=copy_tokenizer)
    finite = FiniteCheck(plan, bank)
    specs = {task.name: output_spec(plan, task, bank) for task in plan.tasks}
    with _complete_or_absent(folder) as partial:
        merged = _counted(materialize_plan(plan, bank), len(specs), progress)
        names, digest = write_shards(finite.watch(merged), specs, partial, limit)
        finite.conclude(allow=allow_nonfinite)
        write_companions(plan, bank, partial)
        write_tokenizer_files(plan, bank, partial, copy=copy_tokenizer)
        for name, path in code.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial / name)
        if write_card:
            (partial / "README.md").write_text(model_card(plan, bank, digest.hex), encoding="utf-8")
        _sync(partial / name for name in (*names, "config.json"))
    return Written(folder, digest.hex)


def _counted(stream: Iterable[Named], total: int, progress: Callable[[int, int], None]) -> Iterator[Named]:
    progress(0, total)
    for done, named in enumerate(stream, start=1):
        progress(done, total)
        yield named


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 5GB, 200MB or 1GiB.

    Raises:
        UserError: the text is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match.group(2).upper() not in UNITS or float(match.group(1)) <= 0:
        raise UserError(f"max shard size must be a size such as 5GB or 200MB, but is '{text}'")
    return max(1, int(float(match.group(1)) * UNITS[match.group(2).upper()]))


def _check_sources_stay(folder: Path, bank: ModelBank) -> None:
    """Check that no source is inside the folder, which is removed as a whole when it is overwritten."""
    whole = folder.resolve()
    for reference in bank.references:
        sources = [folder.resolve() for folder in bank[reference].folders]
        if any(source == whole or whole in source.parents for source in sources):
            raise UserError(f"output folder {folder} contains the source '{reference}'; it is not overwritten")


@contextmanager
def _complete_or_absent(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder, which is renamed to `folder` at the end, or removed if anything fails."""
    target = folder.resolve()
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        _replace(target, partial)
    except OSError as error:
        raise UserError(f"output folder {folder} could not be written: {error}; nothing was left there") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(target: Path, complete: Path) -> None:
    if not target.exists():
        complete.rename(target)
        return
    old = complete.with_name(f"{complete.name}.old")
    target.rename(old)
    try:
        complete.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
