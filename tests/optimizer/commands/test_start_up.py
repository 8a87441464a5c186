"""What each command imports: heavy libraries only where they are needed, for most of a short command is importing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from tiny_models import write_family

RUN = """
import json, sys
from mergesmith.optimizer.commands.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
SEARCH = ("optuna", "cmaes", "lm_eval", "datasets", "pandas", "sklearn", "ray", "mergesmith.optimizer.session.session")
MODELS = ("transformers", "accelerate", "tokenizers", "torch._dynamo", "torch._inductor", "scipy.stats", "sympy")
KERNELS = ("numba", "llvmlite", "triton")


def imported(folder: Path, *arguments: str, code: int = 0) -> set[str]:
    """The modules that a command has imported when it ends, with this exit code, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MERGESMITH_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_merge(tmp_path: Path) -> None:
    write_family(tmp_path, models=2, layers=2)
    (tmp_path / "recipe.yaml").write_text(
        "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 0.5}\n"
    )
    first = imported(tmp_path, "merge", "recipe.yaml", "first")
    assert sorted(first & {*SEARCH, "mergesmith.evaluators"}) == []
    assert "transformers" in first  # whose classes say what the models' config.json means
    # That is known from now on.
    second = imported(tmp_path, "merge", "recipe.yaml", "second")
    assert sorted(second & {*SEARCH, *MODELS, "triton", "mergesmith.evaluators"}) == []
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("arguments", "code", "more"),
    [
        (["--help"], 0, ["torch"]),
        (["search", "--help"], 0, ["torch"]),
        (["search", "nowhere.yaml"], 2, ["torch"]),
        (["methods"], 0, []),
        (["export", "nowhere"], 2, []),
        (["items", "nowhere"], 2, []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_no_model(tmp_path: Path, arguments: list[str], code: int, more: list[str]) -> None:
    found = imported(tmp_path, *arguments, code=code)
    assert sorted(found & {*SEARCH, *MODELS, *KERNELS, *more}) == []
