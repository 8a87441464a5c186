"""mergesmith searches for good merge recipes for language-model checkpoints."""

from pathlib import Path as _Path

__version__ = "0.1.0"

# When installed, the four folders are inside this package; in a source checkout they are next to it.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
