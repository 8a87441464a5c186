"""Discovery of the kernels that an executor has for `Custom` plans, one file per kernel."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from ..methods import Custom
from .job import TensorJob


def _always(_job: TensorJob) -> bool:
    return True


@dataclass(frozen=True)
class MethodKernel:
    """An executor's implementation of one `Custom.kernel`.

    `merge` fills the `out` of jobs that have this kernel, the same number of tensors and, on a GPU, the same dtypes.
    `supports` rejects jobs that `merge` cannot run; their dtypes and devices have been checked before.
    """

    merge: Callable[[Sequence[TensorJob]], None]
    supports: Callable[[TensorJob], bool] = _always


class MethodKernels:
    """The kernels of a package: each module `name.py` declares `KERNEL`, which runs `Custom` plans of that name."""

    def __init__(self, package: ModuleType) -> None:
        names = [info.name for info in pkgutil.iter_modules(package.__path__)]
        self._kernels: dict[str, MethodKernel] = {
            name: importlib.import_module(f"{package.__name__}.{name}").KERNEL for name in names
        }

    def find(self, job: TensorJob) -> MethodKernel | None:
        """Return the kernel that can run a job with a `Custom` plan, or None."""
        assert isinstance(job.plan, Custom), "Should not reach."
        kernel = self._kernels.get(job.plan.kernel or "")
        return kernel if kernel is not None and kernel.supports(job) else None
