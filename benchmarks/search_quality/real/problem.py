"""The problem of real models: its numbers, and how its folder is made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..files import write_search
from ..training import with_adapter
from .adapters import SYSTEM, Course, train
from .base import gguf_path, write_base
from .examples import SUBJECTS, Example, Subject


@dataclass(frozen=True)
class RealProblem:
    """A problem whose parents are LoRA adapters of SmolLM2-135M-Instruct, one per subject.

    Attributes:
        about: one line for the tables.
        items: documents per task.
        rank: of the adapters.
        steps: optimizer steps per adapter.
        rate: the peak of the learning rate.
        share: share of the two other subjects in an adapter's examples.
        knots: `space.knots` of search.yaml.
        known: name -> weights per model by layer, recipes that are known to be good.
    """

    name: str
    about: str
    items: int = 180
    rank: int = 8
    steps: int = 100
    rate: float = 2e-3
    share: float = 0.02
    knots: int = 1
    seed: int = 0
    known: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)


def write_real(problem: RealProblem, folder: Path, log: Callable[[str], None]) -> None:
    """Write models, tasks and search.yaml; models that an interrupted build finished are kept."""
    gguf_path()
    folder.mkdir(parents=True, exist_ok=True)
    _finish(folder / "base", write_base)
    for number, subject in enumerate(SUBJECTS):
        _finish(
            folder / subject.name, lambda path, n=number, s=subject: _write_adapter(problem, n, s, folder, path, log)
        )
    for subject in SUBJECTS:
        _write_task(folder / "tasks", subject, problem)
    write_search(
        folder,
        [f"base+./{subject.name}" for subject in SUBJECTS],
        [_task_name(subject) for subject in SUBJECTS],
        knots=problem.knots,
        chat={"apply_template": True, "system": SYSTEM},
    )


def _finish(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder under another name and rename it, so that a folder with this name is complete."""
    if path.is_dir():
        return
    unfinished = path.with_name(path.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write(unfinished)
    unfinished.rename(path)


def _write_adapter(
    problem: RealProblem, number: int, subject: Subject, folder: Path, path: Path, log: Callable[[str], None]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    model = with_adapter(AutoModelForCausalLM.from_pretrained(folder / "base"), problem.rank, seed=number)
    model.peft_config["default"].base_model_name_or_path = "../base"
    others = problem.share / (len(SUBJECTS) - 1)
    mix = {s.name: 1 - problem.share if s is subject else others for s in SUBJECTS}
    course = Course(mix, problem.steps, problem.rate, seed=problem.seed + number)
    loss = train(model, course, {s.name: s.training(problem.seed) for s in SUBJECTS}, tokenizer)
    log(f"{problem.name}: {subject.name}, loss {loss:.3f}")
    model.save_pretrained(path)


def _task_name(subject: Subject) -> str:
    return f"quality_real_{subject.name}"


def _write_task(folder: Path, subject: Subject, problem: RealProblem) -> None:
    folder.mkdir(exist_ok=True)
    data = folder / f"{_task_name(subject)}.jsonl"
    rows = [_document(subject, example) for example in subject.test(problem.seed)[: problem.items]]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = yaml.safe_dump(_task(subject, data.resolve()), sort_keys=False)
    (folder / f"{_task_name(subject)}.yaml").write_text(text, encoding="utf-8")


def _document(subject: Subject, example: Example) -> dict[str, Any]:
    if subject.choices:
        choices = list(subject.choices)
        return {"question": example.question, "choices": choices, "label": choices.index(example.answer)}
    answer = example.answer.rsplit(", ", 1)[-1]  # of a worked sum, the result
    return {"question": example.question, "answer": answer}


def _task(subject: Subject, data: Path) -> dict[str, Any]:
    common = {
        "task": _task_name(subject),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "{{question}}",
        "target_delimiter": "",
    }
    if subject.choices:
        return common | {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    last_match = [
        {"function": "regex", "regex_pattern": f"({subject.pattern})", "group_select": -1},
        {"function": "take_first"},
    ]
    return common | {
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": subject.max_tokens},
        "filter_list": [{"name": "last", "filter": last_match}],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
