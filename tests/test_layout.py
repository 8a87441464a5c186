"""The architecture, enforced: what is packaged, who imports whom, which library is used where, how large things get."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

from checkout import ROOT
from import_graph import FOLDERS, Import, cycles, graph_of, imports_of, module_name, source_files

# The top folders, and the rooms inside each, from the ground up. A file imports its own room and those before it.
# What lies in the folder itself is a room of its own; the face (`__init__`) comes last.
MAY_IMPORT = {
    "merge_ops": (),
    "search_spaces": ("merge_ops",),
    "evaluators": (),
    "optimizer": ("merge_ops", "search_spaces", "evaluators"),
}
ROOMS = {
    "merge_ops": (
        *("numerics", "architectures", "methods", "recipes", "checkpoints", "executors", "bank", "vocabulary"),
        *("planning", "merging", "live", "output"),
    ),
    "search_spaces": (
        *("config", "dimensions", "ingredients", "tensor_filters", "parameter_slot", "method_space"),
        *("model_groups", "setting_checks", "coordinates", "space", "baselines", "weight_jacobian"),
    ),
    "evaluators": (
        *("config", "records", "lm_eval_bridge", "tasks", "inference", "gold", "scoring", "checks"),
        *("suite", "simple_evaluate"),
    ),
    "optimizer": (
        *("stop_signals", "proposal", "samplers", "config_faults", "config_references", "config"),
        *("session", "run_folder", "pools", "search"),
        *("terminal", "report", "demo", "start", "commands", "api"),
    ),
}
# Folders in which a file registers itself by being there: they may grow.
REGISTRIES = ("merge_ops/methods", "merge_ops/executors/cpu/methods", "merge_ops/executors/gpu/methods")
# A library and the only folders that may import it.
ONLY_IN = {
    "optuna": ("optimizer",),
    "cmaes": ("optimizer",),
    "botorch": ("optimizer/samplers",),
    "gpytorch": ("optimizer/samplers",),
    "ray": ("optimizer/pools",),
    "lm_eval": ("evaluators",),
    "datasets": ("evaluators",),
    "jinja2": ("optimizer/report", "merge_ops/recipes", "evaluators/lm_eval_bridge"),  # the report, chat templates
    "markupsafe": ("optimizer/report",),
    "numba": ("merge_ops/executors/cpu",),
    "triton": ("merge_ops/executors/gpu",),
    "pandas": ("optimizer/api",),
    "wandb": ("optimizer/api/callbacks",),
    "mlflow": ("optimizer/api/callbacks",),
}
MERGE_OPS_LIBRARIES = (
    *("torch", "safetensors", "transformers", "huggingface_hub", "pydantic", "yaml", "jinja2", "numpy"),
    *("numba", "triton"),  # kernels
    "accelerate",  # models over several devices
)
# Modules that every folder may import, absolutely since the package root lies beside the folders.
IN_PACKAGE_ROOT = ("mergesmith.errors", "mergesmith.config_section", "mergesmith.__version__")
MODULES_PER_FOLDER = 16
LINES_PER_FILE = 300

FILES = source_files(ROOT)


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """The imports of a file in the checkout."""
    return tuple(imports_of((ROOT / path).read_text(encoding="utf-8"), path))


@cache
def face(folder: str) -> tuple[str, ...]:
    """The names that a top folder exports: its `__all__`."""
    tree = ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))
    lists = (
        node.value for node in tree.body if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets[0])
    )
    return tuple(ast.literal_eval(next(lists, ast.Tuple([]))))


def folder_and_room(module: str) -> tuple[str, str]:
    """The top folder and the room of a module; the face of a folder has room ''."""
    _, folder, *rest = [*module.split("."), ""]
    return folder, rest[0]


def height(module: str) -> int:
    """How high a module's room is above the ground of its folder."""
    folder, room = folder_and_room(module)
    return ROOMS[folder].index(room) if room else len(ROOMS[folder])


def test_imports_are_read_in_every_form() -> None:
    source = (
        "import a.b\nfrom ..merge_ops import x\nfrom . import y\nfrom .. import evaluators\n"
        "def f():\n    from ..other.room import z\nif TYPE_CHECKING:\n    from .near import t\n"
    )
    assert set(imports_of(source, Path("optimizer/pools/file.py"))) == {
        Import("a.b", False),
        Import("mergesmith.optimizer.merge_ops.x", True),
        Import("mergesmith.optimizer.pools.y", True),
        Import("mergesmith.optimizer.evaluators", True),
        Import("mergesmith.optimizer.other.room.z", True),
        Import("mergesmith.optimizer.pools.near.t", True),
    }
    assert Import("mergesmith.merge_ops.x", True) in set(imports_of(source, Path("optimizer/file.py")))


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert cycles({"a": {"b"}, "b": set()}) == []


def test_no_import_runs_in_a_circle() -> None:
    """Imports inside functions and under TYPE_CHECKING count: they are dependencies all the same."""
    assert cycles(graph_of(ROOT)) == []


def test_every_module_is_in_a_known_room() -> None:
    rooms = {folder_and_room(module_name(path)) for path in FILES if path.parts[0] in FOLDERS}
    assert rooms == {(folder, room) for folder in FOLDERS for room in (*ROOMS[folder], "")}


def test_imports_go_down() -> None:
    faults = [
        f"{module} must not import {target}"
        for module, targets in graph_of(ROOT).items()
        for target in targets
        if module != "mergesmith"  # the package root is the face of everything
        if folder_and_room(module)[0] == folder_and_room(target)[0] in FOLDERS
        if height(target) > height(module)
    ]
    assert not faults, "\n".join(faults)


def test_other_folders_are_imported_through_their_face() -> None:
    faults = []
    for path in FILES:
        home = path.parts[0]
        if home not in FOLDERS:
            continue
        for found in imports(path):
            if found.target.split(".")[0] in FOLDERS:
                faults.append(f"{path}: 'import {found.target}' works only in a checkout; make it relative")
            _, folder, name = [*found.target.split(".", 2), "", ""][:3]
            if folder not in FOLDERS or folder == home:
                continue
            if folder not in MAY_IMPORT[home]:
                faults.append(f"{path}: {home} must not import {folder}")
            elif name not in face(folder):
                faults.append(f"{path}: '{name}' is not in {folder}'s __all__")
    assert not faults, "\n".join(faults)


def test_imports_of_the_package_are_relative() -> None:
    faults = [
        f"{path}: '{found.target}' must be imported relatively"
        for path in FILES
        for found in imports(path)
        if path.parts[0] in FOLDERS and not found.relative
        if found.target.startswith("mergesmith") and not found.target.startswith(IN_PACKAGE_ROOT)
    ]
    assert not faults, "\n".join(faults)


def test_libraries_are_where_they_belong() -> None:
    faults = []
    for path in FILES:
        for found in imports(path):
            library = found.target.split(".")[0]
            if found.relative or library == "mergesmith":
                continue
            if library in ONLY_IN and not any(path.is_relative_to(folder) for folder in ONLY_IN[library]):
                faults.append(f"{path} imports {library}")
            if path.parts[0] == "merge_ops" and library not in {*MERGE_OPS_LIBRARIES, *sys.stdlib_module_names}:
                faults.append(f"{path} imports {library}")
    assert not faults, "\n".join(faults)


def test_merge_ops_works_without_the_search_stack() -> None:
    jinja = ("jinja2", "markupsafe")  # chat templates
    blocked = (*(library for library in ONLY_IN if library not in jinja), "rich", "typer")
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "import mergesmith.merge_ops as m\n"
        "for name in m.__all__: getattr(m, name)\n"
        "print(len(m.METHODS), sorted(set(sys.modules) & {'mergesmith.optimizer', 'mergesmith.evaluators'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1].strip() == "[]"


def test_every_folder_with_python_is_packaged() -> None:
    # Read as text: tomllib came with Python 3.11.
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[tool.setuptools]")[1]
    packaged = set(ast.literal_eval(text.split("packages = ")[1].split("]")[0] + "]"))
    assert packaged == {module_name(path.parent / "__init__.py") for path in FILES}


def test_folders_and_files_are_small() -> None:
    modules = Counter(str(path.parent) for path in FILES if path.name != "__init__.py")
    crowded = [f"{folder}: {n} modules" for folder, n in modules.items() if n > MODULES_PER_FOLDER]
    lines = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = [f"{path}: {n} lines" for path, n in lines.items() if n > LINES_PER_FILE]
    assert not [fault for fault in (*crowded, *long) if not fault.startswith(tuple(f"{r}:" for r in REGISTRIES))]


def test_tests_mirror_the_rooms() -> None:
    """A test file lies in the room that it tests, so that both are found by the same path."""
    rooms = {path.parent for path in FILES} | {Path("search_spaces")}
    tests = {path.relative_to(ROOT / "tests").parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert tests - rooms - {Path()} == set()
