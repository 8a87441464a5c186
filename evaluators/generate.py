"""Greedy generation: left-padded prompts of about equal length, a shared start read once, finished rows leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from .prefix import PrefixCaches, head_reads, keep_rows
from .stops import Stops


@dataclass(frozen=True)
class Prompt:
    """Tokens to continue; the first `prefix` of them come from a shared cache."""

    request: int
    tokens: tuple[int, ...]
    stops: Stops
    prefix: int = 0


@dataclass(frozen=True)
class PromptBatch:
    """Prompts that are continued together.

    Attributes:
        prefix: tokens before every prompt that come from a cache.
        tokens: (rows, length) int64, padded on the left.
        mask: (rows, prefix + length + stops.limit) int64, 0 for padding, with room for the answers.
        requests: (rows,) whose prompts they are.
    """

    prefix: tuple[int, ...]
    tokens: torch.Tensor
    mask: torch.Tensor
    requests: tuple[int, ...]
    stops: Stops


@dataclass(frozen=True)
class Generated:
    """An answer: its text, the number of tokens that were generated, and whether it was cut off at the limit."""

    text: str
    length: int
    truncated: bool


class NonFiniteRowError(ArithmeticError):
    """NaN or infinite logits; `request` is the one that met them first."""

    def __init__(self, request: int) -> None:
        super().__init__(request)
        self.request = request


def prompt_batches(prompts: Sequence[Prompt], *, tokens: int, device: torch.device) -> tuple[PromptBatch, ...]:
    """Batches of prompts with the same settings and start, longest first.

    `tokens` is the most in a batch, padding, shared starts and the longest answers included.
    """

    def alike(prompt: Prompt) -> tuple[int, tuple[int, ...]]:
        return order[prompt.stops], prompt.tokens[: prompt.prefix]

    order = {stops: i for i, stops in enumerate(dict.fromkeys(prompt.stops for prompt in prompts))}
    batches = []
    for _, group in groupby(sorted(prompts, key=lambda p: (alike(p), -len(p.tokens), p.tokens)), key=alike):
        waiting = list(group)
        while waiting:
            rows = max(1, tokens // (len(waiting[0].tokens) + waiting[0].stops.limit))
            batches.append(_batch(waiting[:rows], device))
            waiting = waiting[rows:]
    return tuple(batches)


@torch.inference_mode()
def generate(
    model: Any, batches: Sequence[PromptBatch], caches: PrefixCaches, ends: frozenset[int]
) -> dict[int, Generated]:
    """Request -> its answer. `ends` are the tokens that end a text.

    Raises:
        NonFiniteRowError: at the first NaN or infinite logit.
    """
    found: dict[int, Generated] = {}
    for batch in batches:
        found |= _continued(model, batch, caches, ends)
    return found


def _continued(model: Any, batch: PromptBatch, caches: PrefixCaches, ends: frozenset[int]) -> dict[int, Generated]:
    cache = caches.before(batch.prefix, len(batch.tokens))
    tokens, mask = batch.tokens, batch.mask
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    start, end = len(batch.prefix), len(batch.prefix) + tokens.shape[1]  # the places that the model reads next
    answers: list[list[int]] = [[] for _ in batch.requests]
    live = list(range(len(answers)))
    found: dict[int, Generated] = {}
    with head_reads(model, lambda hidden: hidden[:, -1:]):
        while True:
            logits = model(
                tokens,
                attention_mask=mask[:, :end],
                position_ids=positions[:, start:end],
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
            newest = _likeliest(logits, [batch.requests[row] for row in live])
            for row, token in zip(live, newest.tolist(), strict=True):
                answers[row].append(token)
            texts = [answers[row] for row in live]
            reached = batch.stops.reached(texts)
            stopped = [text[-1] in ends or stop for text, stop in zip(texts, reached, strict=True)]
            stay = []
            for place, (row, stop) in enumerate(zip(live, stopped, strict=True)):
                if stop or len(answers[row]) == batch.stops.limit:
                    text = batch.stops.text(answers[row])
                    found[batch.requests[row]] = Generated(text, len(answers[row]), truncated=not stop)
                else:
                    stay.append(place)
            if not stay:
                return found
            if len(stay) < len(live):
                kept = torch.tensor(stay, device=tokens.device)
                keep_rows(cache, kept)
                mask, positions, newest = mask[kept], positions[kept], newest[kept]
                live = [live[place] for place in stay]
            tokens, start, end = newest[:, None], end, end + 1


def _likeliest(logits: torch.Tensor, requests: Sequence[int]) -> torch.Tensor:
    """(rows,) the likeliest token of each row, the first of equals."""
    on_cpu = logits.device.type == "cpu"  # where numpy takes a tenth of torch's time
    newest = torch.from_numpy(logits.float().numpy().argmax(-1)) if on_cpu else logits.argmax(-1)
    # NaN counts as the largest, so the chosen logit tells of the whole row.
    for request, (chosen,) in zip(requests, logits.gather(1, newest[:, None]).tolist(), strict=True):
        if not math.isfinite(chosen):
            raise NonFiniteRowError(request)
    return newest


def _batch(prompts: Sequence[Prompt], device: torch.device) -> PromptBatch:
    prefix = prompts[0].prefix
    stops = prompts[0].stops
    length = max(len(prompt.tokens) for prompt in prompts) - prefix
    tokens = torch.empty(len(prompts), length, dtype=torch.long)
    mask = torch.ones(len(prompts), prefix + length + stops.limit, dtype=torch.long)
    for i, prompt in enumerate(prompts):
        own = prompt.tokens[prefix:]
        padding = length - len(own)
        tokens[i] = torch.tensor((*own[:1] * padding, *own))  # padded with a token of its own, as log-likelihood rows
        mask[i, prefix : prefix + padding] = 0
    return PromptBatch(
        prefix=prompts[0].tokens[:prefix],
        tokens=tokens.to(device),
        mask=mask.to(device),
        requests=tuple(prompt.request for prompt in prompts),
        stops=stops,
    )
