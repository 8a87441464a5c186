"""Rows of tokens for log-likelihoods: a context once, and the answers that are scored after it.

*packed*: one row per item, the context and all of its answers; each answer sees the context and itself only.
*rows*: one row per answer. In both, answers of one token ride on the context's last position and need no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A common start is worth a forward pass of its own from so many tokens on, and from this share of the shortest prompt.


@dataclass(frozen=True)
class Answer:
    """The tokens of one request's continuation; `request` is its place among the requests."""

    request: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class TokenRow:
    """What one row of a batch holds. The first `prefix` tokens of the context come from a shared cache."""

    context: tuple[int, ...]
    answers: tuple[Answer, ...]
    prefix: int = 0

    @property
    def length(self) -> int:
        """Tokens that the model reads: an answer's last one is predicted, not read."""
        return len(self.context) - self.prefix + sum(len(answer.tokens) - 1 for answer in self.answers)

    @property
    def branched(self) -> bool:
        """Whether two answers follow the context, so that a causal mask would let one see the other."""
        return sum(len(answer.tokens) > 1 for answer in self.answers) > 1

    @property
    def scored(self) -> int:
        """Positions whose logits are needed, at most."""
        return sum(len(answer.tokens) for answer in self.answers)


def likelihood_rows(
    pairs: Sequence[tuple[object, Sequence[int], Sequence[int]]],
    groups: Sequence[object],
    *,
    packed: bool,
    max_length: int,
    prefix: Sequence[int] = (),
    first: int = 0,
) -> list[TokenRow]:
    """The rows of (item of any kind, context tokens, continuation tokens) requests.

    Args:
        pairs: lm-eval's tokenized requests. As in lm-eval, a context that is too long loses its start, so that context
            and continuation without its last token fill `max_length` positions.
        groups: for every request, what it belongs to; only requests of the same group share a row.
        packed: whether answers of several tokens share a row.
        max_length: positions that a sequence may have.
        prefix: a start of contexts that a cache holds; a row uses it where its context goes on after it.
        first: the number of the first request.
    """
    contexts: dict[tuple[object, tuple[int, ...]], list[Answer]] = {}
    for request, ((_, before, after), group) in enumerate(zip(pairs, groups, strict=True), start=first):
        context = tuple(before[-(max_length + 1 - len(after)) :])
        contexts.setdefault((group, context), []).append(Answer(request, tuple(after)))
    start = tuple(prefix)
    rows = []
    for (_, context), answers in contexts.items():
        shared = len(start) if len(context) > len(start) and context[: len(start)] == start else 0
        rows += [TokenRow(context, found, shared) for found in _shared_out(answers, len(context), packed, max_length)]
    return rows


def _shared_out(answers: Sequence[Answer], context: int, packed: bool, max_length: int) -> list[tuple[Answer, ...]]:
    """Answers of one context, cut into rows; no row is longer than a sequence may be, for attention is quadratic."""
    room = max_length - context if packed else 0
    rows: list[list[Answer]] = []
    used = 0
    for answer in sorted(answers, key=lambda answer: len(answer.tokens) > 1):
        more = len(answer.tokens) - 1
        if not rows or (used and used + more > room):
            rows.append([])
            used = 0
        rows[-1].append(answer)
        used += more
    return [tuple(row) for row in rows]
