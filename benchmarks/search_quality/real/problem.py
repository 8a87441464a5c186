"""The problem of real models: its numbers, and how its folder is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from ..files import choice, generation, write_search, write_task
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
    items: int = 110
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
        rows = [_row(subject, example) for example in subject.test(problem.seed)[: problem.items]]
        write_task(folder / "tasks", _task_name(subject), rows, _settings(subject))
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


def _row(subject: Subject, example: Example) -> dict[str, Any]:
    if subject.choices:
        return {
            "question": example.question,
            "choices": list(subject.choices),
            "label": subject.choices.index(example.answer),
        }
    return {"question": example.question, "answer": example.answer.rsplit(", ", 1)[-1]}  # of a worked sum, the result


def _settings(subject: Subject) -> dict[str, Any]:
    return choice() if subject.choices else generation("\n", subject.max_tokens, subject.pattern)
