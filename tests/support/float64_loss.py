"""A loss of tiny models that is float64 throughout, so that finite differences are exact to many digits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

TOKENS = torch.tensor([[1, 7, 4, 20, 33, 9, 2, 11], [5, 5, 40, 41, 3, 17, 8, 30]])
STEP = 1e-6


def loss(model: Any) -> torch.Tensor:
    """Return the cross entropy; computations that models always do in float32 are in float64 too."""
    model.config._experts_implementation = "eager"  # grouped matrix products do not support float64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch, "float", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        logits = model(TOKENS, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
