"""Greedy decoding with CUDA graphs: a step is captured once per batch shape and replayed for every further token.

Prompts are read as by `generate.LoopDecoder`. Their keys and values are then copied into tensors with fixed addresses
(see `decode_step.py`), so that all kernels of a step are launched at once, without Python between them. Weights are
overwritten in place from candidate to candidate, so a captured graph serves all of them. On devices other than CUDA the
same steps run without capture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..records import UnsupportedError
from .decode_step import DecodeStep, Layers, check_steps
from .generate import LoopDecoder, PromptBatch
from .prefix_cache import PrefixCaches

LENGTH_MULTIPLE = 64  # cache lengths are rounded up to it, so that batches of similar length share a graph
MEMORY_SHARE = 0.1  # of the device's memory, for keys and values of cached steps


def cache_length(positions: int) -> int:
    """Round a required sequence length up to the cache length of a captured step."""
    return -(-positions // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def check_recordable(model: Any, length: int) -> None:
    """Check that steps of a model with caches of `length` slots can be captured as CUDA graphs.

    Raises:
        UnsupportedError: the model is not on a CUDA device, or for a reason given in `check_steps`.
    """
    if model.device.type != "cuda":
        raise UnsupportedError("it is not on a CUDA device")
    check_steps(model, length)


class GraphCache:
    """Captured steps of one model, reused from candidate to candidate.

    Steps are kept until MEMORY_SHARE is used up: the first ones, since every candidate meets the same batches in the
    same order.
    """

    def __init__(self) -> None:
        self._model: Any = None
        self._steps: dict[tuple[int, int], DecodeStep] = {}

    def clear(self) -> None:
        """Drop all steps and their memory."""
        self._steps.clear()

    def get(self, model: Any, rows: int, length: int, like: Layers) -> DecodeStep:
        """Return the step for `rows` rows and caches of `length` slots; see `DecodeStep` for `like`."""
        if self._model is not model:
            self.clear()
            self._model = model
        if (rows, length) in self._steps:
            return self._steps[rows, length]
        step = DecodeStep(model, rows, length, like)
        if step.nbytes + sum(kept.nbytes for kept in self._steps.values()) <= MEMORY_SHARE * _memory(like[0][0].device):
            self._steps[rows, length] = step
        return step


def _memory(device: torch.device) -> float:
    """Return a device's memory in bytes; a nominal 4 GiB for devices without CUDA."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 2.0**32


class GraphDecoder(LoopDecoder):
    """Decodes the first token as `LoopDecoder`, which reads the prompts, and further ones with captured steps."""

    def __init__(self, model: Any, batch: PromptBatch, caches: PrefixCaches, graphs: GraphCache) -> None:
        super().__init__(model, batch, caches)
        self._graphs, self._step, self._began = graphs, None, False
        self._first_rows, self._length = len(batch.tokens), cache_length(self.mask.shape[1])
        self._rows = torch.arange(len(batch.tokens), device=self.tokens.device)  # the unfinished rows of the step

    def next_tokens(self, requests: Sequence[int]) -> torch.Tensor:
        """As in `LoopDecoder`; the step is replaced by a smaller one when half of its rows are finished."""
        if not self._began:
            self._began = True
            return super().next_tokens(requests)
        step, live = self._step, len(requests)
        if step is None:
            cache: Any = self.cache
            layers = [(layer.keys, layer.values) for layer in cache.layers]
            positions = self.positions[:, self.start : self.end]
            step = self._graphs.get(self.model, self._first_rows, self._length, layers)
            step.begin(layers, self.start, self.tokens, positions, self.mask.bool())
            self.cache = None  # frees its memory
        elif 2 * live <= step.rows and step.rows > 1:
            step = self._smaller(step, live)
        if step is not self._step:
            self._step, self._rows = step, torch.arange(live, device=self.tokens.device)
        return step.next(self._rows, requests)

    def keep(self, rows: torch.Tensor) -> None:
        """As in `LoopDecoder`."""
        if self._step is None:
            super().keep(rows)
        else:
            self._rows = self._rows[rows]

    def _smaller(self, step: DecodeStep, live: int) -> DecodeStep:
        """Return a step of at most twice the live rows that continues them."""
        rows, slots = self._rows, int(step.slot)
        layers = [(keys[rows], values[rows]) for keys, values in step.layers]
        state = step.tokens[rows], step.positions[rows], step.seen[rows]
        size = step.rows
        while 2 * live <= size and size > 1:
            size = -(-size // 2)
        smaller = self._graphs.get(self.model, size, self._length, layers)
        smaller.begin(layers, slots, *state)
        return smaller
