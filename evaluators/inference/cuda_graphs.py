"""Decoding by CUDA graphs: one token of a batch is recorded once, and replayed for every further one.

Prompts are read as by `generate.Growing`. Then keys and values move to tensors with room for the answers, and a step
works on tensors that stay where they are, so its kernels can be launched as one graph, without Python between them.
Weights are overwritten in place from candidate to candidate: a graph serves all of them. Elsewhere than on a CUDA
device steps are the same, and run one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ..records import UnsupportedError
from .attention import Attention
from .generate import Growing, PromptBatch, check_finite_rows
from .prefix_cache import PrefixCaches

ROOM = 64  # places: what room is a multiple of, so that batches of about equal length share a graph
SHARE = 0.1  # of the device's memory that steps may keep
Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]  # keys and values, (rows, heads, places, size)


def cache_length(places: int) -> int:
    """The room that a step has where so many places are needed."""
    return -(-places // ROOM) * ROOM


def check_steps(model: Any, room: int) -> Attention:
    """How a model attends whose tokens can be read by steps.

    Raises:
        UnsupportedError: it takes no masks of ours, a layer looks back over less than the room, or it lies on several
            devices.
    """
    attention = Attention.of(model)
    if attention.window is not None and attention.window < room:
        raise UnsupportedError(f"its layers slide over {attention.window} of {room} positions")
    if len({parameter.device for parameter in model.parameters()}) > 1:
        raise UnsupportedError("it lies on several devices")
    return attention


def check_recordable(model: Any, room: int) -> None:
    """Whether steps of a model can be graphs; raises as `check_steps`, and for models that are not on a CUDA device."""
    if model.device.type != "cuda":
        raise UnsupportedError("it is not on a CUDA device")
    check_steps(model, room)


class FixedLayer(DynamicLayer):
    """A layer's keys and values, (rows, heads, room, size); new ones are written at `place`, (1,) int64."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, place: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values, self._fixed, self.place = keys, values, (keys, values), place
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any) -> Any:
        """Write the keys and values of one token; all places come back, read or not."""
        for own, new in zip(self._fixed, (key_states, value_states), strict=True):
            own.index_copy_(2, self.place, new)
        return self._fixed


class DecodeStep:
    """One more token of `rows` rows with room for `room` places."""

    def __init__(self, model: Any, rows: int, room: int, like: Layers) -> None:
        """Record it; `like` are keys and values of the model's, for their shapes.

        Raises:
            UnsupportedError: see `check_steps`.
        """
        device = like[0][0].device
        self.rows, self.room = rows, room
        self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)  # that are read next, and then the newest
        self.positions = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.chosen = torch.zeros(rows, 1, dtype=torch.float32, device=device)  # the newest tokens' logits
        self.seen = torch.ones(rows, room, dtype=torch.bool, device=device)
        self.place = torch.zeros(1, dtype=torch.long, device=device)

        def wide(x: torch.Tensor) -> torch.Tensor:
            return x.new_zeros(rows, x.shape[1], room, x.shape[3])

        self.layers = [(wide(keys), wide(values)) for keys, values in like]
        self._model, self._attention = model, check_steps(model, room)
        self._columns = torch.arange(room, device=device)
        self._cache: Any = DynamicCache()
        self._cache.layers = [FixedLayer(keys, values, self.place) for keys, values in self.layers]
        self._replay = recorded(self.run, device)

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values."""
        return sum(x.nbytes for layer in self.layers for x in layer)

    def run(self) -> None:
        """Read `tokens`, and put in their place what follows them. Nothing of it waits for numbers on the device."""
        seen = self.seen & (self._columns <= self.place)
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
        self.place.add_(1)

    def begin(
        self, layers: Layers, places: int, tokens: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor
    ) -> None:
        """Go on from n rows with so many places read: their next `tokens` and `positions` (n, 1), `seen` (n, any)."""
        count = len(tokens)
        for own, other in zip(self.layers, layers, strict=True):
            for x, y in zip(own, other, strict=True):
                x.zero_()  # a mask hides numbers, but not the NaN that another candidate may have left
                x[:count, :, :places].copy_(y[:, :, :places])
        self.tokens.zero_()  # rows that are not there start anew, too: their positions would grow without end
        self.positions.zero_()
        self.tokens[:count].copy_(tokens)
        self.positions[:count].copy_(positions)
        self.seen[:count, : seen.shape[1]].copy_(seen)
        self.place.fill_(places)

    def next(self, rows: torch.Tensor, requests: Sequence[int]) -> torch.Tensor:
        """(n,) the newest tokens of these rows, which are the requests'."""
        self._replay()
        check_finite_rows(self.chosen[rows], requests)
        return self.tokens[rows, 0]


def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What runs the step: on a CUDA device the launch of its graph. It is run a few times before."""
    if device.type != "cuda":
        return step
    aside, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    aside.wait_stream(here)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.stream(aside):
        step()  # libraries choose and load their kernels, and may wait for the device
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()  # what waits raises here: a recording that fails would leave torch's allocator in disorder
        finally:
            torch.cuda.set_sync_debug_mode(before)
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            step()
    here.wait_stream(aside)
    return graph.replay


class GraphCache:
    """The steps of one model, for its candidates one after another.

    They stay as far as memory allows: the first ones, since every candidate meets the same batches in the same order.
    """

    def __init__(self) -> None:
        self._model: Any = None
        self._found: dict[tuple[int, int], DecodeStep] = {}

    def clear(self) -> None:
        """Give the memory back."""
        self._found.clear()

    def get(self, model: Any, rows: int, room: int, like: Layers) -> DecodeStep:
        """The step for so many rows and so much room."""
        if self._model is not model:
            self.clear()
            self._model = model
        if (rows, room) in self._found:
            return self._found[rows, room]
        step = DecodeStep(model, rows, room, like)
        if step.nbytes + sum(kept.nbytes for kept in self._found.values()) <= SHARE * _memory(like[0][0].device):
            self._found[rows, room] = step
        return step


def _memory(device: torch.device) -> float:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 2.0**32


class Replayed(Growing):
    """Rows of a batch that are continued by steps, behind the first token."""

    def __init__(self, model: Any, batch: PromptBatch, caches: PrefixCaches, steps: GraphCache) -> None:
        super().__init__(model, batch, caches)
        self._steps, self._step, self._began = steps, None, False
        self._first_rows, self._room = len(batch.tokens), cache_length(self.mask.shape[1])
        self._rows = torch.arange(len(batch.tokens), device=self.tokens.device)  # of the step that are still continued

    def newest(self, requests: Sequence[int]) -> torch.Tensor:
        """As in `Growing`; steps shrink when half of their rows are finished."""
        if not self._began:
            self._began = True
            return super().newest(requests)
        step, live = self._step, len(requests)
        if step is None:
            cache: Any = self.cache
            own = [(layer.keys, layer.values) for layer in cache.layers]
            positions = self.positions[:, self.start : self.end]
            step = self._steps.get(self.model, self._first_rows, self._room, own)
            step.begin(own, self.start, self.tokens, positions, self.mask.bool())
            self.cache = None  # its memory
        elif 2 * live <= step.rows and step.rows > 1:
            rows, places = self._rows, int(step.place)
            own = [(keys[rows], values[rows]) for keys, values in step.layers]
            state = step.tokens[rows], step.positions[rows], step.seen[rows]
            size = step.rows
            while 2 * live <= size and size > 1:
                size = -(-size // 2)
            step = self._steps.get(self.model, size, self._room, own)
            step.begin(own, places, *state)
        if step is not self._step:
            self._step, self._rows = step, torch.arange(live, device=self.tokens.device)
        return step.next(self._rows, requests)

    def keep(self, rows: torch.Tensor) -> None:
        """As in `Growing`."""
        if self._step is None:
            super().keep(rows)
        else:
            self._rows = self._rows[rows]
