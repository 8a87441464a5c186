"""Finds NaN and infinite values in merged tensors, and says which source they come from."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import torch

from mergesmith.errors import UserError

from ..bank.model_bank import ModelBank
from ..numerics.reductions import one_thread
from ..planning.merge_plan import MergePlan

MOST = 20  # more tensors than these are counted, not listed


class NonfiniteWarning(UserWarning):
    """A merged model was written with NaN or infinite values in it, as asked for."""


class FiniteCheck:
    """Watches a stream of merged tensors: one `isfinite` per tensor; sources are looked at only where it fails."""

    def __init__(self, plan: MergePlan, bank: ModelBank) -> None:
        self._inputs = {task.name: task.inputs for task in plan.tasks}
        self._bank = bank
        self._found: dict[str, str] = {}

    def watch(self, stream: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """Pass a stream of named tensors on, remembering those that hold NaN or infinite values."""
        for name, tensor in stream:
            bad = _nonfinite(tensor)
            if bad:
                self._found[name] = f"{bad} in {tensor.numel()} values{self._blame(name, tensor.dtype)}"
            yield name, tensor

    def conclude(self, *, allow: bool) -> None:
        """Refuse what was found, or warn of it where it is allowed.

        Raises:
            UserError: a tensor holds NaN or infinite values, and that is not allowed.
        """
        if not self._found:
            return
        lines = [f"  - {name}: {text}" for name, text in list(self._found.items())[:MOST]]
        lines += [f"  - and {len(self._found) - MOST} tensors more"] if len(self._found) > MOST else []
        message = "\n".join([f"the merged model holds NaN or infinite values, tensors: {len(self._found)}", *lines])
        if not allow:
            fix = "Mend or leave out the source, or write it all the same with --allow-nonfinite."
            raise UserError(f"{message}\n{fix}")
        warnings.warn(message, NonfiniteWarning, stacklevel=3)

    def _blame(self, name: str, dtype: torch.dtype) -> str:
        sources = [
            f"'{model}' holds {bad} in '{source}'"
            for model, source in self._inputs[name]
            if (bad := _nonfinite(self._bank.tensor((model, source))))
        ]
        if sources:
            return f"; the source {' and '.join(sources)}"
        largest = torch.finfo(dtype).max
        return f"; no source does: the recipe's numbers lead beyond {dtype} (largest value {largest:.3g})"


def _nonfinite(tensor: torch.Tensor) -> str:
    """How many NaN and infinite values there are, in words; empty where there are none."""
    if not tensor.is_floating_point() or not tensor.numel():
        return ""
    values = tensor.float() if tensor.element_size() == 1 else tensor  # few operations know 8-bit floats
    # The extremes show both kinds, in a fraction of the time: NaN is passed on. One thread is as fast as memory.
    with one_thread():
        extremes = torch.aminmax(values)
    if all(bool(torch.isfinite(extreme)) for extreme in extremes):
        return ""
    finite = torch.isfinite(values)
    nans = int(torch.isnan(values).sum())
    infinite = int((~finite).sum()) - nans
    return " and ".join(f"{count} {kind}" for count, kind in ((nans, "NaN"), (infinite, "Inf")) if count)
