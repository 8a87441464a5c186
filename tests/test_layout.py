"""The folders: what is packaged, who imports whom, which library is used where, how long files are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("merge_ops", "search_spaces", "evaluators", "optimizer")
MAY_IMPORT = {
    "merge_ops": (),
    "search_spaces": ("merge_ops",),
    "evaluators": (),
    "optimizer": ("merge_ops", "search_spaces", "evaluators"),
}
# A library and the only folders that may import it.
ONLY_IN = {
    "optuna": ("optimizer",),
    "cmaes": ("optimizer",),
    "ray": ("optimizer/pools",),
    "lm_eval": ("evaluators",),
    "datasets": ("evaluators",),
    "numba": ("merge_ops/executors/cpu",),
    "triton": ("merge_ops/executors/gpu",),
}
MERGE_OPS_LIBRARIES = (
    *("torch", "safetensors", "transformers", "huggingface_hub", "pydantic", "yaml", "numpy"),
    *("numba", "triton"),  # kernels
    "accelerate",  # models over several devices
)
LONGEST_FILE = 300

FILES = sorted(path.relative_to(ROOT) for folder in ("mergesmith", *FOLDERS) for path in (ROOT / folder).rglob("*.py"))
OURS = [path for path in FILES if path.parts[0] in FOLDERS]


def package_of(path: Path) -> str:
    """The dotted package of a file in the checkout."""
    parts = path.parent.parts
    return ".".join(parts if parts[0] == "mergesmith" else ("mergesmith", *parts))


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """(absolute dotted target, written relative) of every import statement, those inside functions included."""
    return tuple(_imports(ast.parse((ROOT / path).read_text(encoding="utf-8")), package_of(path)))


def _imports(tree: ast.AST, package: str) -> Iterator[tuple[str, bool]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parent, *([node.module] if node.module else [])])
            # `from .. import x` may name a folder.
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "mergesmith" else [module]
            yield from ((name, node.level > 0) for name in names)


def setuptools_packages() -> set[str]:
    # Read as text: tomllib came with Python 3.11.
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[tool.setuptools]")[1]
    return set(ast.literal_eval(text.split("packages = ")[1].split("]")[0] + "]"))


def test_imports_are_read_in_every_form() -> None:
    source = (
        "import a.b\nfrom ..merge_ops import x\nfrom . import y\nfrom .. import evaluators\n"
        "def f():\n    from ..pools_of_its_own import z\n"
    )
    assert set(_imports(ast.parse(source), "mergesmith.optimizer.pools")) == {
        ("a.b", False),
        ("mergesmith.optimizer.merge_ops", True),
        ("mergesmith.optimizer.pools", True),
        ("mergesmith.optimizer", True),
        ("mergesmith.optimizer.pools_of_its_own", True),
    }
    found = {name for name, _ in _imports(ast.parse(source), "mergesmith.optimizer")}
    assert {"mergesmith.merge_ops", "mergesmith.evaluators"} <= found


def test_every_folder_with_python_is_packaged() -> None:
    assert setuptools_packages() == {package_of(path) for path in FILES}


@pytest.mark.parametrize("path", OURS, ids=str)
def test_own_imports_are_relative_and_allowed(path: Path) -> None:
    home = path.parts[0]
    for target, relative in imports(path):
        first = target.split(".")[0]
        assert relative or first not in FOLDERS, f"{path}: 'import {target}' works only in a checkout; make it relative"
        if first != "mergesmith":
            continue
        if not relative:
            assert target == "mergesmith.errors", f"{path}: '{target}' must be imported relatively"
            continue
        other = target.split(".")[1]
        assert other in (home, *MAY_IMPORT[home]), f"{path}: {home} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_libraries_are_where_they_belong(path: Path) -> None:
    for target, relative in imports(path):
        library = target.split(".")[0]
        if not relative and library in ONLY_IN:
            assert any(path.is_relative_to(folder) for folder in ONLY_IN[library]), f"{path} imports {library}"


@pytest.mark.parametrize("path", [p for p in OURS if p.parts[0] == "merge_ops"], ids=str)
def test_merge_ops_needs_few_libraries(path: Path) -> None:
    for target, relative in imports(path):
        library = target.split(".")[0]
        known = library in MERGE_OPS_LIBRARIES or library in sys.stdlib_module_names
        assert relative or known or target == "mergesmith.errors", f"{path} imports {library}"


def test_merge_ops_works_without_the_search_stack() -> None:
    blocked = (*ONLY_IN, "rich", "typer")
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "import mergesmith.merge_ops as m\n"
        "print(len(m.METHODS), sorted(set(sys.modules) & {'mergesmith.optimizer', 'mergesmith.evaluators'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1].strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_short(path: Path) -> None:
    lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{path} has {lines} lines"
