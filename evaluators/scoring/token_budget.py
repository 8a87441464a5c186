"""Finds the number of tokens per batch that fits into memory, once for all candidates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..inference.batches import Batch, make_batches
from ..inference.device_errors import is_device_lost, is_out_of_memory, release
from ..inference.likelihood import log_likelihoods
from ..inference.prefix_cache import PrefixCaches, head_reads
from ..inference.rows import Answer, TokenRow
from ..tasks.suite_content import SuiteContent
from .likelihood_requests import logits_budget

CPU_BUDGET = 4096  # larger batches leave a processor's cache
DEVICE_BUDGET = 65536  # the first budget that is tried on a device
LEAST_BUDGET = 256


def fitting_budget(content: SuiteContent, model: Any) -> int:
    """Return the largest of DEVICE_BUDGET, half of it, ... whose batches of the longest prompts fit into memory."""
    if model.device.type == "cpu":  # the operating system ends a process that runs out of memory, without an exception
        return CPU_BUDGET
    return device_budget(content, model, DEVICE_BUDGET)


def device_budget(content: SuiteContent, model: Any, start: int) -> int:
    """Return the first of start, start / 2, ... that fits; CPU_BUDGET for a model that only lm-eval can score."""
    lm = content.lm
    requests = [request for leaf in content.leaves.values() for request in leaf.all_requests()]
    length = min(lm.max_length, max((request.length for request in requests), default=1))
    lengths = [r.length + lm.most_new_tokens(r.arguments[1]) for r in requests if r.is_generation]
    written = min(lm.max_length, max(lengths, default=0))

    def attempt(tokens: int, branches: int) -> None:
        logits = logits_budget(tokens, lm)
        log_likelihoods(model, full_batches(model, length, tokens, logits, branches), PrefixCaches(model))
        if written:
            _read_with_cache(model, max(1, tokens // written), written)

    for branches in (2, 1):
        try:
            return halved_until_it_fits(partial(attempt, branches=branches), start)
        except Exception as error:  # an architecture that accepts no custom masks, or none of our batches at all
            if is_device_lost(error) or is_out_of_memory(error):
                raise
        release()  # outside the handler, whose exception keeps the failed attempt's tensors alive
    return CPU_BUDGET


def full_batches(model: Any, length: int, tokens: int, logits: int, branches: int) -> tuple[Batch, ...]:
    """Return batches of `tokens` tokens, of rows of this length that end in `branches` answers."""
    answers = tuple(Answer(i, (0,) * (length // 4 + 1)) for i in range(branches))
    row = TokenRow((0,) * max(1, length - branches * (length // 4)), answers)
    return make_batches([row] * max(1, tokens // row.length), tokens=tokens, logits=logits, device=model.device)


@torch.inference_mode()
def _read_with_cache(model: Any, rows: int, length: int) -> None:
    """Allocate the memory that generation needs at its end: keys and values of prompts and answers."""
    tokens = torch.zeros(rows, length, dtype=torch.long, device=model.device)
    with head_reads(model, lambda hidden: hidden[:, -1:]):
        model(tokens, past_key_values=PrefixCaches(model).before((), rows), use_cache=True)


def halved_until_it_fits(attempt: Callable[[int], object], start: int) -> int:
    """Return the first of start, start / 2, ... for which `attempt` does not run out of memory; else LEAST_BUDGET."""
    size = start
    while size > LEAST_BUDGET:
        try:
            attempt(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return size
        release()
        size //= 2
    return LEAST_BUDGET
