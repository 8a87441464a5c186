"""Versions and machine of a run, and the paths of its models after the run was moved."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..session.versions import package_version

LIBRARIES = ("mergesmith", "torch", "transformers", "lm_eval", "optuna", "cmaes", "safetensors")


def environment() -> dict[str, Any]:
    """Return the versions and the machine, as environment.json records them."""
    from ..session.devices import default_device, device_name  # imports torch

    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device_name(default_device()),
        "versions": {name: package_version(name) for name in LIBRARIES},
    }


def recorded_root(root: Path, run: Path) -> dict[str, str]:
    """Return the record of the folder to which relative paths refer: absolute, and relative to the run's folder."""
    root = root.resolve()
    return {"root": str(root), "root_from_here": os.path.relpath(root, run.resolve())}


def found_root(run: Path, recorded: Mapping[str, str]) -> Path:
    """Return the folder that `recorded_root` describes: the absolute path or, if that is gone, the relative one."""
    root = Path(recorded["root"])
    if root.is_dir() or "root_from_here" not in recorded:
        return root
    return (run / recorded["root_from_here"]).resolve()


def moved(reference: str, before: Path, now: Path) -> str:
    """Return an absolute model reference (or model+adapter) after its folder was moved from `before` to `now`."""

    def part(path: str) -> str:
        if not Path(path).is_absolute() or Path(path).exists():
            return path
        there = Path(os.path.normpath(now / os.path.relpath(path, before)))
        return str(there) if there.exists() else path

    return "+".join(map(part, reference.split("+")))
