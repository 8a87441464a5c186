"""How a model's layers attend, and masks for rows that branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..records import UnsupportedError
from .batches import Batch, visible, within_window

_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Attention:
    """What masks depend on.

    Attributes:
        window: positions that a sliding layer looks back over, its own included; None where no layer slides.
        types: the kinds of layers that a model tells apart; () where all are alike.
        additive: the dtype of masks that are added to attention scores; None for boolean masks.
    """

    window: int | None
    types: tuple[str, ...]
    additive: torch.dtype | None

    @classmethod
    def of(cls, model: Any) -> Attention:
        """Read off a model's configuration.

        Raises:
            UnsupportedError: its attention takes no masks of our own, or has layers other than full and sliding ones.
        """
        config = model.config.get_text_config()
        kind = config._attn_implementation
        if kind not in ("sdpa", "eager"):
            raise UnsupportedError(f"attention '{kind}' takes no mask of our own")
        types = tuple(dict.fromkeys(getattr(config, "layer_types", None) or ()))
        if strange := [name for name in types if name not in (_FULL, _SLIDING)]:
            raise UnsupportedError(f"it has layers of kind '{strange[0]}'")
        window = getattr(config, "sliding_window", None)
        slides = _SLIDING in types if types else window is not None
        return cls(window if slides else None, types if slides else (), model.dtype if kind == "eager" else None)

    def masks(self, batch: Batch) -> torch.Tensor | dict[str, torch.Tensor]:
        """A branched batch's `attention_mask`, (rows, 1, queries, keys); by kind of layer where they differ."""
        seen = visible(batch)
        if self.window is None:
            return self._form(seen)
        return self._by_type(seen, seen & within_window(batch, self.window))

    def form(self, seen: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """The `attention_mask` for what queries see, (rows, queries, keys) bool, where no window ends before."""
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
    """Whether keys and values of a shared start may be computed once and put before many rows.

    Raises:
        UnsupportedError: a layer looks back over less than the `longest` sequence, or keeps another kind of state.
    """
    attention = Attention.of(model)
    if attention.window is not None and attention.window < longest:
        raise UnsupportedError(f"its layers slide over {attention.window} of {longest} positions")
