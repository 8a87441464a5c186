"""How many tokens a batch may hold: found once, then the same for every candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .attention import Attention, UnsupportedError
from .batches import make_batches
from .content import Content
from .likelihood import log_likelihoods
from .memory import is_out_of_memory, release
from .prefix import PrefixCaches
from .rows import Answer, Row

CPU_BUDGET = 4096  # larger batches leave a processor's cache
DEVICE_BUDGET = 65536  # where the search for what fits a device starts
LEAST = 256


def fitting_budget(content: Content, model: Any) -> int:
    """The largest of DEVICE_BUDGET, half of it, ... whose batches of the tasks' longest prompts fit the device."""
    if model.device.type == "cpu":  # its memory runs out by way of the operating system, without an exception
        return CPU_BUDGET
    requests = [request for leaf in content.leaves.values() for request in leaf.all_requests()]
    length = min(content.lm.max_length, max((request.length for request in requests), default=1))

    def attempt(tokens: int) -> None:
        with torch.inference_mode():
            log_likelihoods(model, full_batches(model, length, tokens), PrefixCaches(model))

    return halved_until_it_fits(attempt, DEVICE_BUDGET)


def full_batches(model: Any, length: int, tokens: int) -> Any:
    """One batch of so many tokens, of rows of this length that branch where the model can do that."""
    try:
        Attention.of(model)
        branches = 2
    except UnsupportedError:
        branches = 1
    answers = tuple(Answer(i, (0,) * (length // 4 + 1)) for i in range(branches))
    row = Row((0,) * max(1, length - branches * (length // 4)), answers)
    return make_batches([row] * max(1, tokens // row.length), tokens=tokens, logits=tokens, device=model.device)


def halved_until_it_fits(attempt: Callable[[int], object], start: int) -> int:
    """The first of start, start / 2, ... that `attempt` gets through with; LEAST where none above it does."""
    size = start
    while size > LEAST:
        try:
            attempt(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return size
        release()
        size //= 2
    return LEAST
