"""Finds NaN and infinite values in merged tensors, and the sources that they come from."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import torch

from mergesmith.errors import UserError

from ..bank.model_bank import ModelBank
from ..numerics.reductions import one_thread
from ..planning.merge_plan import MergePlan

MOST = 20  # tensors listed in a message; further ones are counted


class NonfiniteWarning(UserWarning):
    """A merged model was written although it contains NaN or infinite values, because the user allowed it."""


class FiniteCheck:
    """Checks a stream of merged tensors; the sources are read only for tensors with non-finite values."""

    def __init__(self, plan: MergePlan, bank: ModelBank) -> None:
        self._inputs = {task.name: task.inputs for task in plan.tasks}
        self._bank = bank
        self._found: dict[str, str] = {}

    def watch(self, stream: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield named tensors from a stream, recording those that contain NaN or infinite values."""
        for name, tensor in stream:
            bad = _nonfinite(tensor)
            if bad:
                self._found[name] = f"{bad} in {tensor.numel()} values{self._origin(name, tensor.dtype)}"
            yield name, tensor

    def conclude(self, *, allow: bool) -> None:
        """Raise an error if NaN or infinite values were found, or warn if they are allowed.

        Raises:
            UserError: a tensor contains NaN or infinite values, and they are not allowed.
        """
        if not self._found:
            return
        lines = [f"  - {name}: {text}" for name, text in list(self._found.items())[:MOST]]
        lines += [f"  - and {len(self._found) - MOST} more tensors"] if len(self._found) > MOST else []
        message = "\n".join(
            [f"the merged model contains NaN or infinite values (affected tensors: {len(self._found)})", *lines]
        )
        if not allow:
            fix = "Repair or remove the source, or write the model anyway with --allow-nonfinite."
            raise UserError(f"{message}\n{fix}")
        warnings.warn(message, NonfiniteWarning, stacklevel=3)

    def _origin(self, name: str, dtype: torch.dtype) -> str:
        sources = [
            f"'{model}' contains {bad} in '{source}'"
            for model, source in self._inputs[name]
            if (bad := _nonfinite(self._bank.tensor((model, source))))
        ]
        if sources:
            return f"; the source {' and '.join(sources)}"
        largest = torch.finfo(dtype).max
        return f"; no source does: the recipe's parameter values exceed the range of {dtype} (up to {largest:.3g})"


def _nonfinite(tensor: torch.Tensor) -> str:
    """Return a text with the number of NaN and infinite values, empty if there are none."""
    if not tensor.is_floating_point() or not tensor.numel():
        return ""
    values = tensor.float() if tensor.element_size() == 1 else tensor  # few operations support 8-bit floats
    # Minimum and maximum show both kinds (NaN propagates) in a fraction of the time. One thread saturates memory.
    with one_thread():
        extremes = torch.aminmax(values)
    if all(bool(torch.isfinite(extreme)) for extreme in extremes):
        return ""
    finite = torch.isfinite(values)
    nans = int(torch.isnan(values).sum())
    infinite = int((~finite).sum()) - nans
    return " and ".join(f"{count} {kind}" for count, kind in ((nans, "NaN"), (infinite, "Inf")) if count)
