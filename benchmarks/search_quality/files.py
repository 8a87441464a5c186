"""A problem's files: checkpoints, lm-eval tasks with their data, search.yaml, and recipes that are known to be good."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

SPLIT = {"search": 0.36, "select": 0.14, "report": 0.5}  # most items are for the truth
METHODS = ["linear", "slerp", "task_arithmetic", "ties", "dare_ties"]


def write_task(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """Write an lm-eval task and its documents; `settings` come from `choice`, `generation` or `text`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        "num_fewshot": 0,
        "target_delimiter": "",
        **settings,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")


def choice() -> dict[str, Any]:
    """Return the settings of a multiple choice with the columns question, choices and label."""
    return {
        "doc_to_text": "{{question}}",
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [_metric("acc")],
    }


def generation(stop: str, max_tokens: int, pattern: str = "") -> dict[str, Any]:
    """Return the settings of generated answers with the columns question and answer.

    Args:
        stop: the text that ends an answer.
        max_tokens: the length limit of an answer.
        pattern: the part of an answer that is compared, as a regular expression whose last match counts; empty, all.
    """
    settings: dict[str, Any] = {
        "doc_to_text": "{{question}}",
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [stop], "do_sample": False, "max_gen_toks": max_tokens},
        "metric_list": [_metric("exact_match")],
    }
    if pattern:
        last_match = {"function": "regex", "regex_pattern": f"({pattern})", "group_select": -1}
        settings["filter_list"] = [{"name": "last", "filter": [last_match, {"function": "take_first"}]}]
    return settings


def text() -> dict[str, Any]:
    """Return the settings of the perplexity of the column text."""
    return {
        "doc_to_text": "",
        "output_type": "loglikelihood_rolling",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }


def write_search(
    folder: Path,
    models: Sequence[str],
    tasks: Sequence[str | Mapping[str, Any]],
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
        "tasks": [task if isinstance(task, str) else dict(task) for task in tasks],
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


def _metric(name: str) -> dict[str, Any]:
    return {"metric": name, "aggregation": "mean", "higher_is_better": True}
