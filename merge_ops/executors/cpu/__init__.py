"""The executor of the CPU: compiled loops over raw memory, in strips that stay in the processor's cache.

Every kernel does the arithmetic of `execute.py` step by step (float32, no fused multiply-add) and gives its bits.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path


def _forget_other_code() -> None:
    """Remove compiled kernels of other sources: numba looks at a kernel's own file, not at those that it calls into."""
    folder = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    digest, kept = hashlib.sha256(sources).hexdigest(), folder / "__pycache__" / "kernels.sha256"
    if kept.is_file() and kept.read_text() == digest:
        return
    for path in kept.parent.glob("*.nb[ci]"):
        path.unlink(missing_ok=True)
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(digest)


with contextlib.suppress(OSError):  # where this folder cannot be written to, no compiled kernels are in it
    _forget_other_code()
