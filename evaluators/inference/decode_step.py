"""One decoding step on tensors with fixed addresses, captured as a CUDA graph on CUDA devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ..records import UnsupportedError
from .attention import Attention
from .generate import check_finite_rows

Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]  # keys and values of each layer, (rows, heads, slots, head size)


def check_steps(model: Any, length: int) -> Attention:
    """Return how a model attends, if `DecodeStep` supports it with caches of `length` slots.

    Raises:
        UnsupportedError: the model accepts no custom masks, a sliding window is shorter than the cache, or the model is
            spread over several devices.
    """
    attention = Attention.of(model)
    if attention.window is not None and attention.window < length:
        raise UnsupportedError(f"its layers slide over {attention.window} of {length} positions")
    if len({parameter.device for parameter in model.parameters()}) > 1:
        raise UnsupportedError("it is spread over several devices")
    return attention


class FixedLayer(DynamicLayer):
    """A layer's keys and values, (rows, heads, slots, head size); new ones are written to slot `slot`, (1,) int64."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, slot: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values, self._fixed, self.slot = keys, values, (keys, values), slot
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any) -> Any:
        """Write the keys and values of one token; return all slots, unused ones included."""
        for fixed, new in zip(self._fixed, (key_states, value_states), strict=True):
            fixed.index_copy_(2, self.slot, new)
        return self._fixed


class DecodeStep:
    """Decodes one more token of `rows` rows, with a KV cache of `length` slots per row.

    Attributes:
        tokens: (rows, 1) int64, the tokens to read; after a step, the newly decoded tokens.
        positions: (rows, 1) int64, their positions.
        chosen: (rows, 1) float32, the logits of the newest tokens.
        seen: (rows, length) bool, the slots that hold no padding.
        slot: (1,) int64, the slot that the next keys and values are written to.
        layers: keys and values, (rows, heads, length, head size).
    """

    def __init__(self, model: Any, rows: int, length: int, like: Layers) -> None:
        """Allocate the tensors and capture the step.

        Args:
            model: the model to decode with.
            rows: number of rows.
            length: slots per row.
            like: keys and values of the model, of any number of rows and slots, whose shapes are copied.

        Raises:
            UnsupportedError: see `check_steps`.
        """
        device = like[0][0].device
        self.rows, self.length = rows, length
        self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.positions = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.chosen = torch.zeros(rows, 1, dtype=torch.float32, device=device)
        self.seen = torch.ones(rows, length, dtype=torch.bool, device=device)
        self.slot = torch.zeros(1, dtype=torch.long, device=device)

        def wide(x: torch.Tensor) -> torch.Tensor:
            return x.new_zeros(rows, x.shape[1], length, x.shape[3])

        self.layers = [(wide(keys), wide(values)) for keys, values in like]
        self._model, self._attention = model, check_steps(model, length)
        self._slots = torch.arange(length, device=device)
        self._cache: Any = DynamicCache()
        self._cache.layers = [FixedLayer(keys, values, self.slot) for keys, values in self.layers]
        self._replay = captured(self.run, device)

    @property
    def nbytes(self) -> int:
        """Size of the keys and values in bytes."""
        return sum(x.nbytes for layer in self.layers for x in layer)

    def run(self) -> None:
        """Read `tokens` and replace them by the newly decoded tokens, without waiting for the device."""
        seen = self.seen & (self._slots <= self.slot)
        logits = self._model(
            self.tokens,
            attention_mask=self._attention.form(seen[:, None]),
            position_ids=self.positions,
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        self.tokens.copy_(logits.argmax(-1, keepdim=True))
        self.chosen.copy_(logits.gather(1, self.tokens))
        self.positions.add_(1)
        self.slot.add_(1)

    def begin(
        self, layers: Layers, slots: int, tokens: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor
    ) -> None:
        """Start from n <= `rows` rows.

        Args:
            layers: their keys and values, (n, heads, at least `slots`, head size).
            slots: how many slots are filled.
            tokens: (n, 1), the tokens to read next.
            positions: (n, 1), the positions of those tokens.
            seen: (n, any) bool, the slots that hold no padding.
        """
        count = len(tokens)
        for fixed, layer in zip(self.layers, layers, strict=True):
            for x, y in zip(fixed, layer, strict=True):
                x.zero_()  # a mask hides finite values, but not the NaN that an earlier candidate may have left
                x[:count, :, :slots].copy_(y[:, :, :slots])
        self.tokens.zero_()  # unused rows are reset too: otherwise their positions would grow without limit
        self.positions.zero_()
        self.tokens[:count].copy_(tokens)
        self.positions[:count].copy_(positions)
        self.seen[:count, : seen.shape[1]].copy_(seen)
        self.slot.fill_(slots)

    def next(self, rows: torch.Tensor, requests: Sequence[int]) -> torch.Tensor:
        """Decode one token per row and return the tokens of the given rows, (n,).

        `requests` are the requests of these rows, for errors.

        Raises:
            NonFiniteRowError: NaN or infinite logits in one of the rows.
        """
        self._replay()
        check_finite_rows(self.chosen[rows], requests)
        return self.tokens[rows, 0]


def captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture a step as a CUDA graph and return its replay; on other devices, return the step itself.

    The step is run twice before it is captured.
    """
    if device.type != "cuda":
        return step
    side_stream, main_stream = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    side_stream.wait_stream(main_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.stream(side_stream):
        step()  # lets libraries choose and load their kernels, which may synchronize
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()  # raises if the step synchronizes: a capture that fails would corrupt torch's allocator
        finally:
            torch.cuda.set_sync_debug_mode(before)
        with torch.cuda.graph(graph, stream=side_stream, capture_error_mode="thread_local"):
            step()
    main_stream.wait_stream(side_stream)
    return graph.replay
