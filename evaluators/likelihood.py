"""Log-likelihoods of batches of rows: one forward pass each, the head on scored positions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .attention import Attention
from .batches import Batch, visible
from .prefix import PrefixCaches, head_reads

Scored = tuple[float, bool]  # log-likelihood in nat, whether greedy decoding would give the answer


@torch.inference_mode()
def log_likelihoods(model: Any, batches: Sequence[Batch], caches: PrefixCaches) -> dict[int, Scored]:
    """Request -> log-likelihood of its answer, softmax in float32, summed in float64; and whether it is greedy.

    Raises:
        UnsupportedError: batches of branching rows, and a model that takes no masks.
    """
    waiting = [(*_predicted(model, batch, caches), batch.spans) for batch in batches]
    found: dict[int, Scored] = {}
    for values, greedy, spans in waiting:  # the host waits for the device once, not once per batch
        totals, all_greedy = values.double().cpu().numpy(), greedy.cpu().numpy()
        for request, first, end in spans:
            found[request] = float(totals[first:end].sum()), bool(all_greedy[first:end].all())
    return found


def _predicted(model: Any, batch: Batch, caches: PrefixCaches) -> tuple[torch.Tensor, torch.Tensor]:
    """(m,) float32 log-probability of every answer token, and whether it is the likeliest."""
    inputs: dict[str, Any] = {"use_cache": False}
    if batch.prefix:
        inputs = {"use_cache": True, "past_key_values": caches.before(batch.prefix, len(batch.tokens))}
    if batch.branches is not None:
        inputs |= {"attention_mask": Attention.of(model).masks(*visible(batch)), "position_ids": batch.positions}
    with head_reads(model, lambda hidden: hidden.reshape(1, -1, hidden.shape[-1])[:, batch.scored]):
        logits = model(batch.tokens, **inputs).logits[0]
    greedy = logits.argmax(-1)[batch.which] == batch.targets
    return torch.log_softmax(logits, -1, dtype=torch.float32)[batch.which, batch.targets], greedy
