"""Writes a commented search.yaml for given models and tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mergesmith.errors import UserError

from ..config import load_config
from .schema import editor_line

TEMPLATE = """\
{editor}
# The input of `mergesmith search {name}`; `mergesmith plan {name}` checks it first. Relative paths start at this
# file's folder.
version: 1

# A base model and fine-tunes of it: folders, or ids of the Hugging Face hub.
base_model: {base}
models:
{models}

# What candidates are scored on: lm-eval tasks, groups or tags. Their items are divided into search, select and report
# items; the report items are scored once, at the end. More keys of a task: metric, weight, num_fewshot, max_drop.
{task_path}tasks:
{tasks}
# limit: 500                      # the first 500 documents of every task; fewer are faster and less certain

# The merges to search. A method may be given ranges: {{ties: {{density: [0.2, 0.9]}}}}.
space:
  methods: [{methods}]
  # knots: 3                      # a gradient over depth with 3 values instead of one value for all layers
  # filters: [self_attn, mlp]     # separate values for these tensors

search:
  trials: {trials}                     # merges to try; the search may end earlier if there is nothing better to find
  # time_limit: 8h
  seed: 0                         # the same seed gives the same search

# workers: {{pool: ray, gpus_per_worker: 1}}   # several GPUs; without it, one worker in this process

# Trials, scores and the best recipe go here. A search may be interrupted at any time: continue it with --resume.
output: {output}
"""


@dataclass(frozen=True)
class Start:
    """The answers from which a search.yaml is written."""

    base: str
    models: Sequence[str]
    tasks: Sequence[str]
    task_path: Sequence[str] = ()
    trials: int = 100
    output: str = "./runs/search"


def write_search(path: Path, start: Start, *, overwrite: bool = False) -> Path:
    """Write a search.yaml, and its JSON schema beside it; return its path.

    Raises:
        UserError: the file exists, a local model does not, or the answers do not make a valid search.yaml.
    """
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; name another file with -o, or pass --overwrite")
    models = [_reference(model, path.parent) for model in (start.base, *start.models)]
    folders = [os.path.relpath(folder, path.parent) for folder in start.task_path]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = TEMPLATE.format(
        editor=editor_line(path.parent),
        name=path.name,
        base=_scalar(models[0]),
        models=_list(models[1:]),
        task_path=f"task_path: [{', '.join(map(_scalar, folders))}]\n" if folders else "",
        tasks=_list(start.tasks),
        methods=", ".join(_methods(len(start.models))),
        trials=start.trials,
        output=_scalar(start.output),
    )
    path.write_text(text, encoding="utf-8")
    try:
        load_config(path)
    except UserError:
        path.unlink()
        raise
    return path


def _methods(models: int) -> tuple[str, ...]:
    """Return the methods to search: an average of one model is that model."""
    return (*(("linear",) if models > 1 else ()), "slerp", "task_arithmetic", "ties", "dare_ties")


def _reference(model: str, folder: Path) -> str:
    """Return a model as `folder` sees it: an existing folder by its relative path, a hub id unchanged.

    Raises:
        UserError: it is written as a path, and there is no such folder.
    """
    if Path(model).is_dir():
        near = os.path.relpath(model, folder)
        return str(Path(model).resolve()) if near.startswith("../..") else f"./{near}"
    if model.startswith((".", "/", "~")) and "+" not in model:
        raise UserError(f"there is no folder '{model}'")
    return model


def _list(values: Sequence[str]) -> str:
    return "\n".join(f"  - {_scalar(value)}" for value in values)


def _scalar(value: str) -> str:
    """Return text as YAML, in quotes if it needs them."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).split("\n")[0]
