"""Versions of the installed packages, and settings of them, that scores depend on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str | None]:
    """Return the versions of the libraries that scores depend on, and whether cuDNN may compute attention."""
    libraries = {name: package_version(name) for name in ("torch", "transformers", "lm_eval")}
    return {**libraries, "cudnn_attention": "off"}


def package_version(name: str) -> str | None:
    """Return the installed version of a package; None if it is not installed, such as in a bare checkout."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
