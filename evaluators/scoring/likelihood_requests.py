"""Log-likelihood requests arranged in batches, which every candidate then reads in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inference.batches import Batch, make_batches
from ..inference.likelihood import log_likelihoods
from ..inference.prefix_cache import PrefixCaches
from ..inference.rows import TokenRow, likelihood_rows
from ..lm_eval_bridge.live_hflm import LiveLM, Pair
from ..tasks.requests import Request
from .hflm_scorer import check_finite
from .leaf_requests import LeafRequests

LOGITS_PER_TOKEN = 8192  # elements of the logits matrix per token of the token budget


@dataclass(frozen=True)
class LikelihoodRequests:
    """Batches over all scored sequences, and the request that each sequence belongs to.

    Attributes:
        scored: the request of each sequence. A plain request is one sequence; a rolling request has one per window.
        rolling: the rolling requests.
        batches: batches of rows; their `requests` are indices into `scored`.
    """

    scored: tuple[Request, ...]
    rolling: tuple[Request, ...]
    batches: tuple[Batch, ...]

    @classmethod
    def prepare(cls, leaves: Iterable[LeafRequests], lm: LiveLM, *, token_budget: int) -> LikelihoodRequests:
        """Arrange the requests of leaves whose scorer is "packed" or "rows"; a batch holds `token_budget` tokens."""
        scored: list[Request] = []
        rolling: list[Request] = []
        rows: list[TokenRow] = []
        for leaf in leaves:
            pairs = _pairs(leaf, lm)
            rows += likelihood_rows(
                [pair for _, pair in pairs],
                [request.instance.doc_id for request, _ in pairs],
                packed=leaf.scorer.name == "packed",
                max_length=lm.max_length,
                prefix=leaf.prefix,
                first=len(scored),
            )
            scored += [request for request, _ in pairs]
            rolling += [request for request in leaf.requests if request.tokens is not None]
        logits = logits_budget(token_budget, lm)
        return cls(
            scored=tuple(scored),
            rolling=tuple(rolling),
            batches=make_batches(rows, tokens=token_budget, logits=logits, device=lm.device),
        )

    def run(self, model: Any, caches: PrefixCaches) -> None:
        """Store each request's log-likelihood in its instance.

        Raises:
            ScoringError: a log-likelihood is NaN or infinite.
        """
        greedy = any(request.tokens is None for request in self.scored)  # rolling requests need the sum only
        likelihoods = log_likelihoods(model, self.batches, caches, greedy=greedy)
        totals = {id(request): 0.0 for request in self.rolling}
        for number, request in enumerate(self.scored):
            value, is_greedy = likelihoods[number]
            check_finite(value, request.instance)
            if request.tokens is None:
                request.answer((value, is_greedy))
            else:
                totals[id(request)] += value
        for request in self.rolling:
            request.answer(totals[id(request)])


def logits_budget(token_budget: int, lm: LiveLM) -> int:
    """Return the most scored positions in a batch, so that its logits take a bounded amount of memory."""
    return token_budget * LOGITS_PER_TOKEN // lm.vocab_size


def _pairs(leaf: LeafRequests, lm: LiveLM) -> list[tuple[Request, Pair]]:
    pairs = []
    for request in leaf.requests:
        sequences = [request.pair] if request.pair is not None else lm.windows(request.tokens or [])
        pairs += [(request, pair) for pair in sequences]
    return pairs
