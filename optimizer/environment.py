"""Versions and machine, as a run records them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .device import device_name, pick_device

LIBRARIES = ("mergesmith", "torch", "transformers", "lm_eval", "optuna", "cmaes", "safetensors")


def package_version(name: str) -> str | None:
    """The installed version of a package; None in a bare checkout."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device_name(pick_device("auto", "device")),
        "versions": {name: package_version(name) for name in LIBRARIES},
    }
