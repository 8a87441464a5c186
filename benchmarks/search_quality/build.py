"""Making a problem's folder, or finding it in the cache."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from .files import task_name, write_known, write_search, write_task
from .problems import Problem
from .real.problem import RealProblem, write_real
from .tokenizer import character_tokenizer
from .training import new_model, train, with_adapter

VERSION = 1  # of what the scripts make of the same numbers
MARKER = "problem.json"


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
        write_task(folder / "tasks", skill, problem.items, seed=problem.seed)
    write_search(folder, list(problem.specialists), [task_name(skill) for skill in scored], knots=problem.knots)


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
    for number, (name, course) in enumerate(problem.specialists.items()):
        model = copy.deepcopy(base)
        if problem.rank:
            model = with_adapter(model, problem.rank, seed=number)
            model.peft_config["default"].base_model_name_or_path = "../base"
        loss = train(model, course, problem.skills, tokenizer)
        log(f"{problem.name}: {name}, loss {loss:.3f}")
        model.save_pretrained(folder / name)
        if not problem.rank:
            tokenizer.save_pretrained(folder / name)
