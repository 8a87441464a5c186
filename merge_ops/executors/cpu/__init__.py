"""The executor of the CPU: compiled loops over raw memory, in strips that stay in the processor's cache.

Every kernel repeats the arithmetic of `reference.py` step by step (float32, no fused multiply-add) and gives its bits.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path


def _sources(folder: Path) -> list[Path]:
    """Return every file that the kernels' code comes from: this package, the variants, and the methods' constants."""
    methods = folder.parent.parent / "methods"
    constants = [methods / path.name for path in sorted((folder / "methods").glob("[a-z]*.py"))]
    return [*sorted(folder.rglob("*.py")), folder.parent / "variants.py", *constants]


def _forget_other_code() -> None:
    """Remove cached kernels of other sources: numba checks a kernel's file only, not those of functions it calls."""
    folder = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _sources(folder))).hexdigest()
    stored = folder / "__pycache__" / "kernels.sha256"
    if stored.is_file() and stored.read_text() == digest:
        return
    for path in folder.rglob("__pycache__/*.nb[ci]"):
        path.unlink(missing_ok=True)
    stored.parent.mkdir(exist_ok=True)
    stored.write_text(digest)


with contextlib.suppress(OSError):  # a folder that cannot be written to holds no cached kernels
    _forget_other_code()
