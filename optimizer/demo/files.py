"""Writes the demo's files: checkpoints, lm-eval tasks with their data, and a commented search.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from .skills import SKILLS, STOP, WORD_LENGTH, Document, Skill, Words, documents

SEARCH_YAML = """\
# The input of `mergesmith search search.yaml`. Relative paths start at this file's folder.
version: 1                        # of this file's format

# The ingredients: a base model and fine-tunes of it, each a folder (or a Hugging Face hub id).
base_model: ./base
models: [{models}]

# The objective: the mean score over these lm-eval tasks, whose YAML files are in task_path.
task_path: [./tasks]
tasks: [{tasks}]

# The search space. Every method has its parameters (weights, densities, ...) and their ranges.
space:
  methods: [linear, slerp, task_arithmetic, ties, dare_ties]

# The sampler: `auto` works in stages; see docs/explanation/search.md. The same seed gives the same search.
search:
  sampler: auto
  trials: 100
  seed: {seed}

# One thread: models as small as these gain nothing from more, and lose if cores are shared.
workers: {{threads: 1}}
scoring: {{batch_size: 128}}

# Trials, scores and the best recipe go here.
output: ./runs/demo
"""


def task_name(skill: Skill) -> str:
    """Return the name of a skill's lm-eval task."""
    return f"demo_{skill.name}"


def write_checkpoints(folder: Path, zoo: Mapping[str, LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast) -> None:
    """Save every model with the tokenizer as a Hugging Face checkpoint, in a folder named after it."""
    with _no_progress_bars():
        for name, model in zoo.items():
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)


def write_data(folder: Path, words: Words, *, seed: int) -> None:
    """Write each task's documents, one JSON object per line."""
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    for skill in SKILLS:
        rows = documents(skill, words.test[skill.name], seed=seed)
        data_path(folder, skill).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_tasks(folder: Path) -> None:
    """Write the lm-eval tasks. Data paths are absolute: lm-eval resolves relative ones from the working directory."""
    for skill in SKILLS:
        text = yaml.safe_dump(_task(folder, skill), sort_keys=False)
        (folder / "tasks" / f"{task_name(skill)}.yaml").write_text(text, encoding="utf-8")


def write_search(folder: Path, *, seed: int) -> Path:
    """Write search.yaml and return its path."""
    models = ", ".join(f"./{skill.name}" for skill in SKILLS)
    path = folder / "search.yaml"
    text = SEARCH_YAML.format(models=models, tasks=", ".join(map(task_name, SKILLS)), seed=seed)
    path.write_text(text, encoding="utf-8")
    return path


def read_documents(folder: Path, skill: Skill) -> list[Document]:
    """Read the documents that `write_data` wrote."""
    return [json.loads(line) for line in data_path(folder, skill).read_text(encoding="utf-8").splitlines()]


def data_path(folder: Path, skill: Skill) -> Path:
    """Return the path of a skill's documents."""
    return folder / "tasks" / f"{task_name(skill)}.jsonl"


def _task(folder: Path, skill: Skill) -> dict[str, Any]:
    common = {
        "task": task_name(skill),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data_path(folder.resolve(), skill))}},
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "{{question}}",
        "target_delimiter": "",
    }
    return common | (_choice_fields() if skill.multiple_choice else _answer_fields()) | {"metadata": {"version": 1.0}}


def _choice_fields() -> dict[str, Any]:
    return {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


def _answer_fields() -> dict[str, Any]:
    return {
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [STOP], "do_sample": False, "max_gen_toks": WORD_LENGTH + 2},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Disable transformers' progress bars inside, and restore the setting after."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
