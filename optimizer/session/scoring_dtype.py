"""The dtype in which the live model holds a candidate's weights, and so computes its scores.

Some devices compute in 16-bit dtypes more slowly than in float32: CPUs without bfloat16 instructions, and GPUs older
than sm_80. The values of the weights do not depend on this dtype, if it is float32: they are rounded to the dtype of
the recipe's output first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod

import torch

from ...merge_ops import ModelBank
from .host_memory import host_memory

SHORT = ("bfloat16", "float16")  # the dtypes that a device may compute slowly in
ROWS = 64  # of the measured product: tokens in a batch
SIDES = (256, 1024)  # the smallest and largest side of the measured matrix
REPETITIONS = 5
SLOWER = 1.1  # times float32's seconds from which a dtype counts as slower


@dataclass(frozen=True)
class ScoringDtype:
    """The dtype of the live model's weights; `name` is None if it is that of each recipe's output.

    `sentence` says what was chosen and why; it is empty if there was no choice.
    """

    name: str | None
    sentence: str = ""


def choose_dtype(wish: str, *, out: str, bank: ModelBank, base_model: str) -> ScoringDtype:
    """Return the dtype to score in, for `scoring.dtype` of search.yaml.

    Args:
        wish: the configured value.
        out: the dtype of the candidates' weights.
        bank: the sources, with the device.
        base_model: the source whose shapes the candidates have.
    """
    if wish != "auto":
        rounded = f"Weights are rounded to {out}, that of the models, and then held in {wish}, as scoring.dtype asks."
        return ScoringDtype(wish, rounded if wish != out else "")
    if out not in SHORT:
        return ScoringDtype(None)
    times = slowdown(out, _shape(bank, base_model), bank.device)
    found = f"a product of matrices takes {times:.2g} times as long in {out} as in float32"
    if times <= SLOWER:
        return ScoringDtype(None, f"Scored in {out}: on this device, {found}.")
    elements = sum(prod(entry.shape) for entry in bank[base_model].entries.values())
    if bank.device.type == "cpu" and 4 * elements > host_memory() / 2 > 0:
        reason = f"{found}, but in float32 the model takes more than half of this machine's memory"
        return ScoringDtype(None, f"Scored in {out}: on this device, {reason}; scoring.dtype: float32 insists.")
    return ScoringDtype("float32", f"Scored in float32, after rounding the weights to {out}: on this device, {found}.")


def itemsize(dtype: str) -> int:
    """Return the bytes of an element of a dtype of this name."""
    return getattr(torch, dtype).itemsize


def slowdown(dtype: str, shape: tuple[int, int], device: torch.device) -> float:
    """Return how many times as long as in float32 a device takes to multiply activations by a matrix of this shape.

    Sides are limited to SIDES, so that neither the cost of a call nor that of memory is measured; it takes some
    milliseconds.
    """
    low, high = SIDES
    rows, columns = (min(high, max(low, side)) for side in shape)
    seconds = []
    for kind in (torch.float32, getattr(torch, dtype)):
        matrix = torch.ones(rows, columns, dtype=kind, device=device)
        inputs = torch.ones(ROWS, columns, dtype=kind, device=device)
        seconds.append(min(_timed(inputs, matrix) for _ in range(REPETITIONS)))
    return seconds[1] / seconds[0]


def _timed(inputs: torch.Tensor, matrix: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.nn.functional.linear(inputs, matrix)
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
    return time.perf_counter() - start


def _shape(bank: ModelBank, model: str) -> tuple[int, int]:
    """Return the shape of the largest matrix of a model, embeddings and head left out."""
    vocabulary = bank[model].architecture.vocabulary
    shapes = [entry.shape for name, entry in bank[model].entries.items() if name not in vocabulary]
    matrices = [(shape[0], shape[1]) for shape in shapes if len(shape) == 2]
    return max(matrices, key=prod, default=(SIDES[0], SIDES[0]))
