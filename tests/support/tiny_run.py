"""A complete small run for tests: tiny models, lm-eval tasks with local data, a search.yaml."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml
from tiny_models import write_family

MODELS = ("a", "b", "c")
TASK: dict[str, Any] = {
    "mc": {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "gen": {
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["."], "do_sample": False, "max_gen_toks": 2},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
    "ppl": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "word_perplexity"}],
    },
}


def write_run(folder: Path, *, items: int = 110, tasks: tuple[Any, ...] = ("mc", "gen"), **changes: Any) -> Path:
    """Write models, tasks and search.yaml into `folder`; `changes` replace top-level keys. Returns search.yaml."""
    write_family(folder, "llama", layers=2)
    return write_search(folder, items=items, tasks=tasks, **changes)


def write_search(folder: Path, *, items: int = 110, tasks: tuple[Any, ...] = ("mc", "gen"), **changes: Any) -> Path:
    """Write tasks and search.yaml beside models that are there already."""
    for name in TASK:
        _write_task(folder / "tasks", name, items)
    document: dict[str, Any] = {
        "version": 1,
        "base_model": "./base",
        "models": [f"./{name}" for name in MODELS],
        "task_path": ["./tasks"],
        "tasks": list(tasks),
        "space": {"methods": ["linear", "slerp", "task_arithmetic", "ties", "dare_ties"]},
        "search": {"sampler": "random", "trials": 4, "seed": 0},
        "scoring": {"batch_size": 128, "block_items": 40},
        "workers": {"threads": 1},
        "output": "./run",
    }
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump({**document, **changes}, sort_keys=False))
    return path


def _write_task(folder: Path, name: str, items: int) -> None:
    rng = random.Random(name)
    folder.mkdir(exist_ok=True)

    def word(length: int) -> str:
        return "".join(rng.choice("abcdefgh") for _ in range(length))

    documents = [{"question": f"{i} {word(4)}", "choices": [word(2) for _ in range(3)]} for i in range(items)]
    for document in documents:
        document["answer"] = rng.choice("abc") if name == "gen" else rng.randrange(3)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        "doc_to_text": "{{question}}=",
        "target_delimiter": "",
        "num_fewshot": 0,
        **TASK[name],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
