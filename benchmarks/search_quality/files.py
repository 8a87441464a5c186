"""A problem's files: checkpoints, lm-eval tasks with their data, search.yaml, and recipes that are known to be good."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .skills import STOP, Skill

SPLIT = {"search": 0.36, "select": 0.14, "report": 0.5}  # most items are for the truth
METHODS = ["linear", "slerp", "task_arithmetic", "ties", "dare_ties"]


def write_task(folder: Path, skill: Skill, items: int, *, seed: int) -> None:
    """Write one skill's lm-eval task and its documents into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{task_name(skill)}.jsonl"
    rng = random.Random(f"documents {skill.tag} {seed}")
    rows = [_document(skill, word, rng) for word in skill.words(items, test=True, seed=seed)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = yaml.safe_dump(_task(skill, data.resolve()), sort_keys=False)
    (folder / f"{task_name(skill)}.yaml").write_text(text, encoding="utf-8")


def task_name(skill: Skill) -> str:
    """The name of a skill's lm-eval task."""
    return f"quality_{skill.name}_{skill.tag.lower()}"


def write_search(
    folder: Path,
    models: Sequence[str],
    tasks: Sequence[str],
    *,
    knots: int,
    chat: Mapping[str, Any] | None = None,
) -> Path:
    """Write search.yaml and return its path."""
    document = {
        "version": 1,
        "base_model": "./base",
        "models": [f"./{name}" for name in models],
        "task_path": ["./tasks"],
        "tasks": list(tasks),
        "split": SPLIT,
        "space": {"methods": METHODS, "knots": knots},
        "search": {"seed": 0},
        "scoring": {"batch_size": 128},
        "workers": {"threads": 1},
        "output": "./runs/search",
    }
    if chat is not None:
        document["chat"] = dict(chat)
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def write_known(folder: Path, name: str, weights: Mapping[str, Sequence[float]]) -> None:
    """Write task arithmetic with these weights per model, from the first layer to the last, as a recipe."""
    models = [{"model": f"./{m}", "parameters": {"weight": list(w)}} for m, w in weights.items()]
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": "./base",
        "models": models,
        "parameters": {"normalize": False},
        "dtype": "float32",
        "out_dtype": "float32",
    }
    (folder / "known").mkdir(exist_ok=True)
    (folder / "known" / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def _document(skill: Skill, word: str, rng: random.Random) -> dict[str, Any]:
    example = skill.example(word, rng)
    if skill.kind == "generate":
        return {"question": example.question, "answer": example.answer}
    choices = [example.answer + STOP, *(wrong + STOP for wrong in example.wrong)]
    rng.shuffle(choices)
    return {"question": example.question, "choices": choices, "label": choices.index(example.answer + STOP)}


def _task(skill: Skill, data: Path) -> dict[str, Any]:
    common = {
        "task": task_name(skill),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "{{question}}",
        "target_delimiter": "",
    }
    if skill.kind == "choice":
        return common | {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    return common | {
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [STOP], "do_sample": False, "max_gen_toks": skill.length + 1},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
