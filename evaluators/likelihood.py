"""Log-likelihoods of batches of rows: one forward pass each, the head on scored positions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .attention import Attention
from .batches import Batch
from .prefix import PrefixCaches, head_reads

CHUNK = 128  # rows of logits that are worked on at a time: a processor's cache holds them
Scored = tuple[float, bool]  # log-likelihood in nat, whether greedy decoding would give the answer


@torch.inference_mode()
def log_likelihoods(model: Any, batches: Sequence[Batch], caches: PrefixCaches) -> dict[int, Scored]:
    """Request -> log-likelihood of its answer, softmax in float32, summed in float64; and whether it is greedy.

    Raises:
        UnsupportedError: batches of branching rows, and a model that takes no masks.
    """
    predicted = [_predicted(model, batch, caches) for batch in batches]
    found: dict[int, Scored] = {}
    for batch, (values, greedy) in zip(batches, predicted, strict=True):
        totals = np.add.reduceat(values.double().cpu().numpy(), batch.starts)
        all_greedy = np.logical_and.reduceat(greedy.cpu().numpy(), batch.starts)
        found |= zip(batch.requests, zip(totals.tolist(), all_greedy.tolist(), strict=True), strict=True)
    return found


def _predicted(model: Any, batch: Batch, caches: PrefixCaches) -> tuple[torch.Tensor, torch.Tensor]:
    """(m,) float32 log-probability of every answer token, and whether it is the likeliest."""
    inputs: dict[str, Any] = {"use_cache": False}
    if batch.prefix:
        inputs = {"use_cache": True, "past_key_values": caches.before(batch.prefix, len(batch.tokens))}
    if batch.branches is not None:
        inputs |= {"attention_mask": Attention.of(model).masks(batch), "position_ids": batch.positions}
    with head_reads(model, lambda hidden: hidden.reshape(1, -1, hidden.shape[-1])[:, batch.scored]):
        logits = model(batch.tokens, **inputs).logits[0]
    top, total = _largest_and_sum(logits)
    values = logits[batch.which, batch.targets].float()
    greedy = values >= top[batch.which]
    # Of equal logits the first is the likeliest, as in lm-eval: looked up for the few answers that can be greedy.
    equal = greedy.nonzero()[:, 0]
    greedy[equal] = logits[batch.which[equal]].argmax(-1) == batch.targets[equal]
    return values - total[batch.which], greedy


def _largest_and_sum(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n,) float32: the largest of each row, and the logarithm of the sum of exponentials."""
    tops, totals = [], []
    for some in logits.split(CHUNK):
        some = some.float()
        top = some.amax(-1)
        tops.append(top)
        totals.append(top + (some - top[:, None]).exp_().sum(-1).log_())
    return torch.cat(tops), torch.cat(totals)
