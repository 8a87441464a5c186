"""Rows of tokens for log-likelihoods: a context, followed by the answers that are scored after it.

*packed*: one row per item with the context and all answers; each answer attends to the context and itself only.
*rows*: one row per answer. In both, answers of one token are scored at the context's last position and add no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """The tokens of one request's continuation; `request` is the request's number."""

    request: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class TokenRow:
    """The tokens of one row of a batch. The first `prefix` tokens of the context come from a shared cache."""

    context: tuple[int, ...]
    answers: tuple[Answer, ...]
    prefix: int = 0

    @property
    def length(self) -> int:
        """Number of tokens that the model reads; an answer's last token is predicted, not read."""
        return len(self.context) - self.prefix + sum(len(answer.tokens) - 1 for answer in self.answers)

    @property
    def branched(self) -> bool:
        """Whether two answers follow the context, so that with a causal mask one would attend to the other."""
        return sum(len(answer.tokens) > 1 for answer in self.answers) > 1

    @property
    def scored(self) -> int:
        """Upper bound of the positions whose logits are needed."""
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
    """Return the rows of requests given as (anything, context tokens, continuation tokens).

    Args:
        pairs: lm-eval's tokenized requests. As in lm-eval, a context that is too long is cut on the left, so that
            context and continuation without its last token fill `max_length` positions.
        groups: a group for every request, such as its document; only requests of the same group share a row.
        packed: whether answers of several tokens share a row.
        max_length: positions that a sequence may have.
        prefix: tokens held by a cache; a row uses them if its context begins with them and is longer.
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
        rows += [TokenRow(context, found, shared) for found in _distributed(answers, len(context), packed, max_length)]
    return rows


def _distributed(answers: Sequence[Answer], context: int, packed: bool, max_length: int) -> list[tuple[Answer, ...]]:
    """Distribute the answers of one context over rows no longer than `max_length`, since attention is quadratic."""
    available = max_length - context if packed else 0
    rows: list[list[Answer]] = []
    used = 0
    for answer in sorted(answers, key=lambda answer: len(answer.tokens) > 1):
        more = len(answer.tokens) - 1
        if not rows or (used and used + more > available):
            rows.append([])
            used = 0
        rows[-1].append(answer)
        used += more
    return [tuple(row) for row in rows]
