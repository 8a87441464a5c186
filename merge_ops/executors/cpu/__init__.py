"""The CPU executor: compiled loops over raw memory, a strip at a time so that data stay in the processor's cache.

Every kernel repeats the arithmetic of `reference.py` step by step (float32, no fused multiply-add), so the results have
the same bits.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path


def _sources(folder: Path) -> list[Path]:
    """Return every file that the kernels' code comes from: this package, the variants, and imported constants."""
    merge_ops = folder.parent.parent
    constants = [merge_ops / "methods" / path.name for path in sorted((folder / "methods").glob("[a-z]*.py"))]
    constants.append(merge_ops / "numerics" / "random_masks.py")
    return [*sorted(folder.rglob("*.py")), folder.parent / "variants.py", *constants]


def _forget_other_code() -> None:
    """Remove cached kernels of changed sources: numba checks a kernel's file, but not those of functions it calls."""
    folder = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _sources(folder))).hexdigest()
    stored = folder / "__pycache__" / "kernels.sha256"
    if stored.is_file() and stored.read_text() == digest:
        return
    for path in folder.rglob("__pycache__/*.nb[ci]"):
        path.unlink(missing_ok=True)
    stored.parent.mkdir(exist_ok=True)
    stored.write_text(digest)


with contextlib.suppress(OSError):  # numba caches nothing in a folder that cannot be written to
    _forget_other_code()
