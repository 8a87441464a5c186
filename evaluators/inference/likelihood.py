"""Log-likelihoods of batches of rows: one forward pass each, the head on scored positions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .attention import Attention
from .batches import Batch
from .prefix_cache import PrefixCaches, head_reads

CHUNK_ROWS = 64  # rows of logits that are worked on at a time: a processor's cache holds them
Likelihood = tuple[float, bool]  # log-likelihood in nat, whether greedy decoding would give the answer


@torch.inference_mode()
def log_likelihoods(
    model: Any, batches: Sequence[Batch], caches: PrefixCaches, *, greedy: bool = True
) -> dict[int, Likelihood]:
    """Request -> log-likelihood of its answer, softmax in float32, summed in float64; and whether it is greedy.

    With greedy=False nobody asks for the second, which is then False.

    Raises:
        UnsupportedError: batches of branching rows, and a model that takes no masks.
    """
    predicted = [_predicted(model, batch, caches, greedy=greedy) for batch in batches]
    found: dict[int, Likelihood] = {}
    for batch, (values, likeliest) in zip(batches, predicted, strict=True):
        totals = np.add.reduceat(values.double().cpu().numpy(), batch.starts)
        all_greedy = np.logical_and.reduceat(likeliest.cpu().numpy(), batch.starts)
        found |= zip(batch.requests, zip(totals.tolist(), all_greedy.tolist(), strict=True), strict=True)
    return found


def _predicted(model: Any, batch: Batch, caches: PrefixCaches, *, greedy: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(m,) float32 log-probability of every answer token, and whether it is the likeliest."""
    inputs: dict[str, Any] = {"use_cache": False}
    if batch.prefix:
        inputs = {"use_cache": True, "past_key_values": caches.before(batch.prefix, len(batch.tokens))}
    if batch.branches is not None:
        inputs |= {"attention_mask": Attention.of(model).masks(batch), "position_ids": batch.positions}

    def read(hidden: torch.Tensor) -> torch.Tensor:
        # In a model over several devices hidden states are on the last, and logits come back to the first.
        return hidden.reshape(1, -1, hidden.shape[-1])[:, batch.scored.to(hidden.device)]

    with head_reads(model, read):
        logits = model(batch.tokens, **inputs).logits[0]
    values = logits[batch.logit_rows, batch.targets].float()
    likelihoods = values - _logsumexp(logits)[batch.logit_rows]
    if not greedy:
        return likelihoods, torch.zeros(len(values), dtype=torch.bool)
    likeliest = values >= _largest(logits)[batch.logit_rows]
    # Of equal logits the first is the likeliest, as in lm-eval: looked up for the few answers that can be greedy.
    equal = likeliest.nonzero()[:, 0]
    likeliest[equal] = logits[batch.logit_rows[equal]].argmax(-1) == batch.targets[equal]
    return likelihoods, likeliest


def _logsumexp(logits: torch.Tensor) -> torch.Tensor:
    """(n,) float32: the logarithm of the sum of exponentials of each row."""
    found = []
    # The kernel of log_softmax takes half the time of the separate steps; room for what it writes is asked for once.
    room = torch.empty(min(CHUNK_ROWS, len(logits)), logits.shape[-1], dtype=torch.float32, device=logits.device)
    for some in logits.split(CHUNK_ROWS):
        some = some.float()
        found.append(some[:, 0] - torch.log_softmax(some, -1, out=room[: len(some)])[:, 0])
    return torch.cat(found)


def _largest(logits: torch.Tensor) -> torch.Tensor:
    """(n,) float32: the largest of each row."""
    return torch.cat([some.amax(-1).float() for some in logits.split(CHUNK_ROWS)])
