"""Making a problem's folder, or finding it in the cache."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from .files import choice, generation, text, write_known, write_search, write_task
from .problems import Problem
from .real.problem import RealProblem, write_real
from .skills import STOP, Skill
from .tokenizer import character_tokenizer
from .training import new_model, train, with_adapter

VERSION = 1  # of what the scripts make of the same numbers
MARKER = "problem.json"
GUARD_WEIGHT = 0.1  # of a task with a limit: it is there for the limit


def problem_folder(problem: Problem | RealProblem, cache: Path) -> Path:
    """Where a problem lies in the cache: its name and a digest of the numbers that its files follow from."""
    return cache / f"{problem.name}-{hashlib.sha256(_description(problem).encode()).hexdigest()[:10]}"


def build(problem: Problem | RealProblem, cache: Path, log: Callable[[str], None]) -> Path:
    """Make a problem on one thread unless it is in the cache; returns the path of its search.yaml."""
    folder = problem_folder(problem, cache)
    if not (folder / MARKER).is_file():
        start = time.perf_counter()
        torch.set_num_threads(1)
        if isinstance(problem, RealProblem):
            write_real(problem, folder, log)
        else:
            _write_made(problem, folder, log)
        (folder / MARKER).write_text(_description(problem) + "\n", encoding="utf-8")  # last: all the rest is there
        log(f"{problem.name}: made in {time.perf_counter() - start:.0f} s, {folder}")
    for name, weights in problem.known.items():
        write_known(folder, name, weights)
    return folder / "search.yaml"


def _description(problem: Problem | RealProblem) -> str:
    numbers = {key: value for key, value in asdict(problem).items() if key not in ("about", "known")}
    return json.dumps({"version": VERSION, **numbers}, sort_keys=True)


def _write_made(problem: Problem, folder: Path, log: Callable[[str], None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted build
    folder.mkdir(parents=True)
    _write_models(problem, folder, log)
    scored = [skill for skill in problem.skills if skill.tag in problem.tasks]
    for skill in scored:
        write_task(folder / "tasks", _task_name(skill), _rows(skill, problem), _settings(skill))
    write_search(folder, list(problem.specialists), [_entry(skill, problem) for skill in scored], knots=problem.knots)


def _task_name(skill: Skill) -> str:
    return f"quality_{skill.name}_{skill.tag.lower()}"


def _entry(skill: Skill, problem: Problem) -> str | dict[str, Any]:
    """Return a task's entry in search.yaml."""
    name = _task_name(skill)
    if skill.name not in problem.max_drop:
        return name
    return {"name": name, "weight": GUARD_WEIGHT, "max_drop": problem.max_drop[skill.name]}


def _settings(skill: Skill) -> dict[str, Any]:
    return {"choice": choice(), "generate": generation(STOP, skill.length + 1), "text": text()}[skill.kind]


def _rows(skill: Skill, problem: Problem) -> list[dict[str, Any]]:
    rng = random.Random(f"documents {skill.tag} {problem.seed}")
    return [_row(skill, word, rng) for word in skill.words(problem.items, test=True, seed=problem.seed)]


def _row(skill: Skill, word: str, rng: random.Random) -> dict[str, Any]:
    example = skill.example(word, rng)
    if skill.kind == "generate":
        return {"question": example.question, "answer": example.answer}
    if skill.kind == "text":
        return {"text": example.question + example.answer + STOP}
    choices = [example.answer + STOP, *(wrong + STOP for wrong in example.wrong)]
    rng.shuffle(choices)
    return {"question": example.question, "choices": choices, "label": choices.index(example.answer + STOP)}


def _write_models(problem: Problem, folder: Path, log: Callable[[str], None]) -> None:
    transformers_logging.disable_progress_bar()
    tokenizer = character_tokenizer()
    base = new_model(
        problem.family, vocabulary=len(tokenizer), hidden=problem.hidden, layers=problem.layers, seed=problem.seed
    )
    loss = train(base, problem.base, problem.skills, tokenizer)
    log(f"{problem.name}: base of {sum(p.numel() for p in base.parameters()):,} parameters, loss {loss:.3f}")
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    ancestor = copy.deepcopy(base)
    if problem.ancestor is not None:
        loss = train(ancestor, problem.ancestor, problem.skills, tokenizer)
        log(f"{problem.name}: ancestor, loss {loss:.3f}")
    for number, (name, course) in enumerate(problem.specialists.items()):
        model = copy.deepcopy(ancestor)
        if problem.rank:
            model = with_adapter(model, problem.rank, seed=number)
            model.peft_config["default"].base_model_name_or_path = "../base"
        loss = train(model, course, problem.skills, tokenizer)
        log(f"{problem.name}: {name}, loss {loss:.3f}")
        model.save_pretrained(folder / name)
        if not problem.rank:
            tokenizer.save_pretrained(folder / name)
