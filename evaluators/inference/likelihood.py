"""Log-likelihoods of batches: one forward pass each, with logits computed at scored positions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .attention import Attention
from .batches import Batch
from .prefix_cache import PrefixCaches, head_reads

CHUNK_ROWS = 64  # rows of logits processed at a time, so that they fit into a processor's cache
Likelihood = tuple[float, bool]  # log-likelihood in nat, and whether greedy decoding gives the answer


@torch.inference_mode()
def log_likelihoods(
    model: Any, batches: Sequence[Batch], caches: PrefixCaches, *, greedy: bool = True
) -> dict[int, Likelihood]:
    """Return request number -> (log-likelihood in nat, whether greedy decoding gives the answer).

    The softmax is float32, the sum over tokens float64. With greedy=False, the second value is always False.

    Raises:
        UnsupportedError: a row has several answers, and the model accepts no custom masks.
    """
    predicted = [_predicted(model, batch, caches, greedy=greedy) for batch in batches]
    found: dict[int, Likelihood] = {}
    for batch, (values, likeliest) in zip(batches, predicted, strict=True):
        totals = np.add.reduceat(values.double().cpu().numpy(), batch.starts)
        all_greedy = np.logical_and.reduceat(likeliest.cpu().numpy(), batch.starts)
        found |= zip(batch.requests, zip(totals.tolist(), all_greedy.tolist(), strict=True), strict=True)
    return found


def _predicted(model: Any, batch: Batch, caches: PrefixCaches, *, greedy: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of every answer token, (m,) float32, and whether it is the most likely, (m,) bool."""
    inputs: dict[str, Any] = {"use_cache": False}
    if batch.prefix:
        inputs = {"use_cache": True, "past_key_values": caches.before(batch.prefix, len(batch.tokens))}
    if batch.branches is not None:
        inputs |= {"attention_mask": Attention.of(model).masks(batch), "position_ids": batch.positions}

    def read(hidden: torch.Tensor) -> torch.Tensor:
        # In a model over several devices, hidden states are on the last and logits are moved to the first.
        return hidden.reshape(1, -1, hidden.shape[-1])[:, batch.scored.to(hidden.device)]

    with head_reads(model, read):
        logits = model(batch.tokens, **inputs).logits[0]
    values = logits[batch.logit_rows, batch.targets].float()
    likelihoods = values - _logsumexp(logits)[batch.logit_rows]
    if not greedy:
        return likelihoods, torch.zeros(len(values), dtype=torch.bool)
    likeliest = values >= _largest(logits)[batch.logit_rows]
    # Of equal logits the first counts, as in lm-eval; this is computed only for tokens that have the largest logit.
    equal = likeliest.nonzero()[:, 0]
    likeliest[equal] = logits[batch.logit_rows[equal]].argmax(-1) == batch.targets[equal]
    return likelihoods, likeliest


def _logsumexp(logits: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the sum of exponentials of each row, (n,) float32."""
    sums = []
    # log_softmax takes half the time of the separate steps; its output buffer is allocated once.
    buffer = torch.empty(min(CHUNK_ROWS, len(logits)), logits.shape[-1], dtype=torch.float32, device=logits.device)
    for rows in logits.split(CHUNK_ROWS):
        chunk = rows.float()
        sums.append(chunk[:, 0] - torch.log_softmax(chunk, -1, out=buffer[: len(chunk)])[:, 0])
    return torch.cat(sums)


def _largest(logits: torch.Tensor) -> torch.Tensor:
    """Return the largest logit of each row, (n,) float32."""
    return torch.cat([chunk.amax(-1).float() for chunk in logits.split(CHUNK_ROWS)])
