"""Greedy generation over batches of left-padded prompts with a shared prefix; finished rows leave the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from .prefix_cache import PrefixCaches, head_reads, keep_rows
from .stop_strings import StopConditions


@dataclass(frozen=True)
class Prompt:
    """Tokens to continue.

    Attributes:
        request: the number of its request.
        tokens: the prompt.
        stops: the conditions under which its answer ends.
        prefix: how many of the first tokens come from a shared cache.
        use_graphs: whether its answer is decoded with CUDA graphs.
    """

    request: int
    tokens: tuple[int, ...]
    stops: StopConditions
    prefix: int = 0
    use_graphs: bool = False


@dataclass(frozen=True)
class PromptBatch:
    """Prompts that are continued together: with equal stop conditions, prefix and decoder.

    Attributes:
        prompts: (rows,) the prompts.
        tokens: (rows, length) int64, without the prefix, padded on the left.
        mask: (rows, prefix + length + stops.limit) int64, 0 for padding, with places for the answers.
    """

    prompts: tuple[Prompt, ...]
    tokens: torch.Tensor
    mask: torch.Tensor

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens before every prompt that come from a shared cache."""
        return self.prompts[0].tokens[: self.prompts[0].prefix]

    @property
    def requests(self) -> tuple[int, ...]:
        """The number of each prompt's request."""
        return tuple(prompt.request for prompt in self.prompts)

    @property
    def stops(self) -> StopConditions:
        """The conditions under which the answers end."""
        return self.prompts[0].stops

    @property
    def use_graphs(self) -> bool:
        """Whether the answers are decoded with CUDA graphs."""
        return self.prompts[0].use_graphs


@dataclass(frozen=True)
class Generated:
    """An answer: its text, the number of tokens that were generated, and whether it was cut off at the limit."""

    text: str
    length: int
    truncated: bool


class NonFiniteRowError(ArithmeticError):
    """NaN or infinite logits; `request` is the number of the first request with such logits."""

    def __init__(self, request: int) -> None:
        super().__init__(request)
        self.request = request


def prompt_batches(prompts: Sequence[Prompt], *, tokens: int, device: torch.device) -> tuple[PromptBatch, ...]:
    """Return batches of prompts with equal stop conditions, prefix and decoder, longest first.

    `tokens` is the most tokens in a batch, padding, shared prefixes and the longest answers included.
    """

    def alike(prompt: Prompt) -> tuple[bool, int, tuple[int, ...]]:
        return prompt.use_graphs, order[prompt.stops], prompt.tokens[: prompt.prefix]

    order = {stops: i for i, stops in enumerate(dict.fromkeys(prompt.stops for prompt in prompts))}
    batches = []
    for _, group in groupby(sorted(prompts, key=lambda p: (alike(p), -len(p.tokens), p.tokens)), key=alike):
        waiting = list(group)
        while waiting:
            rows = max(1, tokens // (len(waiting[0].tokens) + waiting[0].stops.limit))
            batches.append(_batch(waiting[:rows], device))
            waiting = waiting[rows:]
    return tuple(batches)


class LoopDecoder:
    """Decodes the rows of a batch with a KV cache that grows by one position per token.

    Attributes:
        tokens: (rows, any) int64, the tokens to read next, at cache positions `start` to `end`.
    """

    def __init__(self, model: Any, batch: PromptBatch, caches: PrefixCaches) -> None:
        self.model, self.tokens, self.mask = model, batch.tokens, batch.mask
        self.cache: Any = caches.before(batch.prefix, len(batch.tokens))
        self.positions = (batch.mask.cumsum(1) - 1).clamp_min(0)
        self.start, self.end = len(batch.prefix), len(batch.prefix) + batch.tokens.shape[1]

    def next_tokens(self, requests: Sequence[int]) -> torch.Tensor:
        """Return the token that follows in each row, (rows,); `requests` are the rows' requests.

        Raises:
            NonFiniteRowError: NaN or infinite logits.
        """
        logits = self.model(
            self.tokens,
            attention_mask=self.mask[:, : self.end],
            position_ids=self.positions[:, self.start : self.end],
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        newest = _likeliest(logits, requests)
        self.tokens, self.start, self.end = newest[:, None], self.end, self.end + 1
        return newest

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, (n,) int64."""
        keep_rows(self.cache, rows)
        self.mask, self.positions, self.tokens = self.mask[rows], self.positions[rows], self.tokens[rows]


@torch.inference_mode()
def generate(
    batches: Sequence[PromptBatch], begin: Callable[[PromptBatch], LoopDecoder], ends: frozenset[int]
) -> dict[int, Generated]:
    """Return request number -> answer. `begin` returns the decoder of a batch; `ends` are the tokens that end a text.

    Raises:
        NonFiniteRowError: at the first NaN or infinite logit.
    """
    answered: dict[int, Generated] = {}
    for batch in batches:
        answered |= _continued(batch, begin(batch), ends)
    return answered


def _continued(batch: PromptBatch, rows: LoopDecoder, ends: frozenset[int]) -> dict[int, Generated]:
    requests, stops = batch.requests, batch.stops
    answers: list[list[int]] = [[] for _ in requests]
    live = list(range(len(answers)))
    answered: dict[int, Generated] = {}
    with head_reads(rows.model, lambda hidden: hidden[:, -1:]):
        while True:
            newest = rows.next_tokens([requests[row] for row in live])
            for row, token in zip(live, newest.tolist(), strict=True):
                answers[row].append(token)
            texts = [answers[row] for row in live]
            reached = stops.reached(texts)
            stopped = [text[-1] in ends or stop for text, stop in zip(texts, reached, strict=True)]
            stay = []
            for index, (row, stop) in enumerate(zip(live, stopped, strict=True)):
                if stop or len(answers[row]) == stops.limit:
                    text = stops.text(answers[row])
                    answered[requests[row]] = Generated(text, len(answers[row]), truncated=not stop)
                else:
                    stay.append(index)
            if not stay:
                return answered
            if len(stay) < len(live):
                rows.keep(torch.tensor(stay, device=newest.device))
                live = [live[index] for index in stay]


def _likeliest(logits: torch.Tensor, requests: Sequence[int]) -> torch.Tensor:
    """Return the likeliest token of each row, (rows,); the first of several with equal logits."""
    on_cpu = logits.device.type == "cpu"  # there numpy takes a tenth of torch's time
    newest = torch.from_numpy(logits.float().numpy().argmax(-1)) if on_cpu else logits.argmax(-1)
    check_finite_rows(logits.gather(1, newest[:, None]), requests)
    return newest


def check_finite_rows(chosen: torch.Tensor, requests: Sequence[int]) -> None:
    """Check the largest logit of each row, (rows, 1). NaN counts as the largest, so this covers the whole row.

    Raises:
        NonFiniteRowError: for the first row whose largest logit is NaN or infinite.
    """
    for request, (value,) in zip(requests, chosen.tolist(), strict=True):
        if not math.isfinite(value):
            raise NonFiniteRowError(request)


def _batch(prompts: Sequence[Prompt], device: torch.device) -> PromptBatch:
    prefix = prompts[0].prefix
    stops = prompts[0].stops
    length = max(len(prompt.tokens) for prompt in prompts) - prefix
    tokens = torch.empty(len(prompts), length, dtype=torch.long)
    mask = torch.ones(len(prompts), prefix + length + stops.limit, dtype=torch.long)
    for i, prompt in enumerate(prompts):
        rest = prompt.tokens[prefix:]
        padding = length - len(rest)
        tokens[i] = torch.tensor((*rest[:1] * padding, *rest))  # padded with a token of the row: see `batches.py`
        mask[i, prefix : prefix + padding] = 0
    return PromptBatch(tuple(prompts), tokens.to(device), mask.to(device))
