"""The attention pattern of a model's layers, and masks for rows with several answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..records import UnsupportedError
from .batches import Batch, visible, within_window

_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Attention:
    """The properties of a model that masks depend on.

    Attributes:
        window: length of the sliding window, the query included; None if no layer has one.
        types: the layer types of the configuration; () if all layers attend alike.
        additive: the dtype of masks that are added to attention scores; None for boolean masks.
    """

    window: int | None
    types: tuple[str, ...]
    additive: torch.dtype | None

    @classmethod
    def of(cls, model: Any) -> Attention:
        """Read the properties from a model's configuration.

        Raises:
            UnsupportedError: its attention accepts no custom masks, or it has layers other than full or sliding ones.
        """
        config = model.config.get_text_config()
        kind = config._attn_implementation
        if kind not in ("sdpa", "eager"):
            raise UnsupportedError(f"attention '{kind}' accepts no custom mask")
        types = tuple(dict.fromkeys(getattr(config, "layer_types", None) or ()))
        if strange := [name for name in types if name not in (_FULL, _SLIDING)]:
            raise UnsupportedError(f"it has layers of kind '{strange[0]}'")
        window = getattr(config, "sliding_window", None)
        slides = _SLIDING in types if types else window is not None
        return cls(window if slides else None, types if slides else (), model.dtype if kind == "eager" else None)

    def masks(self, batch: Batch) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return the `attention_mask` of a branched batch, (rows, 1, queries, keys); by layer type if types differ."""
        seen = visible(batch)
        if self.window is None:
            return self._form(seen)
        return self._by_type(seen, seen & within_window(batch, self.window))

    def form(self, seen: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return the `attention_mask` for visible keys, (rows, queries, keys) bool; sequences must fit the window."""
        return self._form(seen) if self.window is None else self._by_type(seen, seen)

    def _by_type(self, seen: torch.Tensor, within: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        sliding = self._form(within)
        if not self.types:
            return sliding
        return {name: sliding if name == _SLIDING else self._form(seen) for name in self.types}

    def _form(self, seen: torch.Tensor) -> torch.Tensor:
        mask = seen[:, None]
        if self.additive is None:
            return mask
        lowest = torch.finfo(self.additive).min
        return torch.zeros(mask.shape, dtype=self.additive, device=mask.device).masked_fill_(~mask, lowest)


def check_prefix(model: Any, longest: int) -> None:
    """Check that keys and values of a shared prefix can be computed once and reused for many rows.

    Raises:
        UnsupportedError: a sliding window is shorter than the `longest` sequence, or a layer keeps another state.
    """
    attention = Attention.of(model)
    if attention.window is not None and attention.window < longest:
        raise UnsupportedError(f"its layers slide over {attention.window} of {longest} positions")
