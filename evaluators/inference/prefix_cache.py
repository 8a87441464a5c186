"""Keys and values of prefixes that many prompts share, computed once and reused for all of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import DynamicCache


class PrefixCaches:
    """KV caches of shared prefixes for one model and its present weights; the newest `capacity` tokens are kept."""

    def __init__(self, model: Any, capacity: int = 0) -> None:
        self.model, self.capacity = model, capacity
        self._caches: dict[tuple[int, ...], DynamicCache] = {}

    def clear(self) -> None:
        """Drop all caches and their memory."""
        self._caches.clear()

    def before(self, prefix: tuple[int, ...], rows: int) -> DynamicCache:
        """Return a fresh KV cache holding the prefix for `rows` rows; an empty one if there is no prefix."""
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
    """Compute logits for a part of the hidden states; `chosen` maps (rows, length, hidden) to (any, any, hidden).

    The hook is on the output embedding, so what a model does to logits after it (soft caps, scales) still applies.
    """
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda _module, inputs: (chosen(inputs[0]), *inputs[1:])
    )
    try:
        yield
    finally:
        handle.remove()


def keep_rows(cache: DynamicCache, rows: torch.Tensor) -> None:
    """Keep the keys and values of these rows only, (n,) int64; layers may be on several devices."""
    layers: list[Any] = cache.layers
    for layer in layers:  # a layer that shares the keys of another has no device
        layer.batch_select_indices(rows.to(getattr(layer, "device", rows.device)))


def _widened(cache: DynamicCache, rows: int) -> DynamicCache:
    """Expand the cache of one row to `rows` rows without a copy, since layers never write to keys in place."""
    wide = copy.copy(cache)
    layers: list[Any] = [copy.copy(layer) for layer in cache.layers]
    wide.layers = layers
    for layer in layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return wide
