"""Numba's compiler without coverage's tracer, under which it takes more than half as long again.

Coverage cannot see compiled kernels anyway. The few functions of the product that generate code inside the compiler
count as not covered, as they already do when kernels come from numba's cache on disk.
"""

from __future__ import annotations

import sys
from typing import Any

from numba.core.dispatcher import Dispatcher


def compile_untraced() -> None:
    """Switch this thread's trace function off while numba compiles, from now on in this process."""
    compiled = Dispatcher.compile

    def untraced(self: Any, sig: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return compiled(self, sig)
        finally:
            sys.settrace(tracer)

    Dispatcher.compile = untraced  # pyright: ignore[reportAttributeAccessIssue]
