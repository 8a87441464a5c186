"""Keys and values of a prompt's start that many prompts share, computed once and put before all of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import DynamicCache


class PrefixCaches:
    """Caches of shared starts for one model with its present weights, of `room` tokens in all: the newest stay."""

    def __init__(self, model: Any, capacity: int = 0) -> None:
        self.model, self.capacity = model, capacity
        self._caches: dict[tuple[int, ...], DynamicCache] = {}

    def clear(self) -> None:
        """Give the memory back."""
        self._caches.clear()

    def before(self, prefix: tuple[int, ...], rows: int) -> DynamicCache:
        """A cache of its own for `rows` rows that all follow the prefix; an empty one where there is none."""
        if not prefix:
            return DynamicCache(config=self.model.config)
        if prefix not in self._caches:
            while self._caches and sum(map(len, self._caches)) + len(prefix) > self.capacity:
                del self._caches[next(iter(self._caches))]
            cache = DynamicCache(config=self.model.config)
            tokens = torch.tensor([prefix], device=self.model.device)
            with head_reads(self.model, lambda hidden: hidden[:, -1:]):
                self.model(tokens, past_key_values=cache, use_cache=True)
            self._caches[prefix] = cache
        return _widened(self._caches[prefix], rows)


@contextlib.contextmanager
def head_reads(model: Any, chosen: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Let the output embedding see a part of the hidden states, (rows, length, hidden) -> (any, any, hidden).

    What the model does to logits afterwards (soft caps, scales) stays as it is, for it happens behind the embedding.
    """
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda _module, inputs: (chosen(inputs[0]), *inputs[1:])
    )
    try:
        yield
    finally:
        handle.remove()


def keep_rows(cache: DynamicCache, rows: torch.Tensor) -> None:
    """Leave the keys and values of these rows alone, (n,) int64; layers may lie on several devices."""
    layers: list[Any] = cache.layers
    for layer in layers:  # one without keys of its own has no device
        layer.batch_select_indices(rows.to(getattr(layer, "device", rows.device)))


def _widened(cache: DynamicCache, rows: int) -> DynamicCache:
    """The same keys and values before each of `rows` rows, without a copy: layers never write to them in place."""
    wide = copy.copy(cache)
    layers: list[Any] = [copy.copy(layer) for layer in cache.layers]
    wide.layers = layers
    for layer in layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return wide
