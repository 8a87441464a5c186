"""Losses of the gold answers of a suite's items, in batches that a backward pass has room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..inference.attention import Attention
from ..inference.batches import Batch, make_batches
from ..inference.prefix_cache import head_reads
from ..inference.rows import TokenRow, likelihood_rows
from ..lm_eval_bridge.isolation import inside_lm_eval
from ..records import UnsupportedError
from ..tasks.suite_content import SuiteContent
from .gold_items import GoldItem, gold_items
from .losses import Form, RequestScore, item_losses, needs, token_likelihoods, token_margins

LOGITS_PER_TOKEN = (
    2048  # entries of the logits' matrix that a token of a batch allows for; a backward pass needs copies
)


@dataclass(frozen=True)
class GoldBatch:
    """Items whose losses are computed, and backpropagated, together.

    Attributes:
        items: the items; the windows of a long document are items of the same document, and their losses add up.
        weights: (items,) float32 shares in the total loss; over all batches those of all documents sum to 1.
        batches: what the model reads.
        candidates: for each of `batches`, (m, k) the tokens that may stand at each position, and which are no padding.
    """

    items: tuple[GoldItem, ...]
    weights: Tensor
    batches: tuple[Batch, ...]
    candidates: tuple[tuple[Tensor, Tensor], ...]

    def losses(self, model: Any, form: Form) -> Tensor:
        """Return the items' losses, (items,), with the model's present weights; differentiable unless under `no_grad`.

        The total loss of this batch is `(batch.losses(model, form) * batch.weights).sum()`.
        """
        likelihoods, margins = needs(self.items, form)
        scores: dict[int, RequestScore] = {}
        for batch, (candidates, valid) in zip(self.batches, self.candidates, strict=True):
            logits = _logits(model, batch)[batch.logit_rows]
            found = token_likelihoods(logits, candidates, valid) if likelihoods else None
            margin = token_margins(logits, candidates, valid) if margins else None
            ends = [*batch.starts[1:].tolist(), len(batch.targets)]
            for request, start, end in zip(batch.requests, batch.starts.tolist(), ends, strict=True):
                total = None if found is None else found[start:end].sum()
                scores[request] = RequestScore(total, None if margin is None else margin[start:end].amin(), end - start)
        return item_losses(self.items, scores, form)


class GoldLosses:
    """The gold answers of some items of a suite, arranged in batches once for all candidates of one shape.

    Attributes:
        batches: longest items first.
        missing: task or objective -> why items of it take no part, with their number.
    """

    def __init__(
        self,
        content: SuiteContent,
        model: Any,
        items: Mapping[str, Sequence[int]],
        *,
        tokens: int,
        packed: frozenset[str] = frozenset(),
    ) -> None:
        """Find the gold answers and arrange them.

        Args:
            content: what the suite holds.
            model: of the candidates' shape; its weights do not matter.
            items: task -> document ids, as in `Block.items`.
            tokens: the most tokens in a batch, padding included; a longer item has a batch of its own.
            packed: tasks whose choices share a row with their prompt.
        """
        self._content, self._tokens, self._packed = content, tokens, packed
        self.missing: dict[str, str] = {}
        content.lm.attach(model)
        with inside_lm_eval():
            found = {leaf: self._items(leaf, ids) for leaf, ids in items.items()}
        known = {leaf: parts for leaf, parts in found.items() if parts}
        shares = self._shares({leaf: len({item.doc for item in parts}) for leaf, parts in known.items()})
        everything = [(item, self._rows(item)) for parts in known.values() for item in parts]
        everything.sort(key=lambda pair: -max(row.length for row in pair[1]))
        self.batches = tuple(self._batch(chunk, shares) for chunk in self._chunks(everything))

    def _items(self, leaf: str, ids: Sequence[int]) -> list[GoldItem]:
        if leaf not in self._content.leaves:
            self.missing[leaf] = "a Python objective has no gold answers"
            return []
        found: list[GoldItem] = []
        reasons: list[str] = []
        for doc in ids:
            try:
                chat = self._content.config.chat.apply_template
                found += gold_items(self._content.leaves[leaf], doc, self._content.lm, chat=chat)
            except UnsupportedError as error:
                reasons.append(str(error))
            except Exception as error:  # templates and functions of the task
                reasons.append(f"its gold answer cannot be made: {type(error).__name__}: {error}")
        if reasons:
            self.missing[leaf] = f"{len(reasons)} of {len(ids)} items: {reasons[0]}"
        return found

    def _shares(self, counts: Mapping[str, int]) -> dict[str, float]:
        """The weight of one document of each task; `counts` are the tasks' documents that take part."""
        shares: dict[str, float] = {}
        for entry in self._content.entries:
            leaves = [leaf for leaf in entry.leaves if leaf.name in counts]
            total = sum(leaf.share for leaf in leaves)
            shares |= {leaf.name: entry.weight * leaf.share / total / counts[leaf.name] for leaf in leaves}
        everything = sum(shares[leaf] * count for leaf, count in counts.items())
        return {leaf: share / everything for leaf, share in shares.items()}

    def _rows(self, item: GoldItem, first: int = 0) -> list[TokenRow]:
        """The rows of an item, whose requests are numbered from `first` on."""
        pairs = [(None, request.context, request.tokens) for request in item.requests]
        length, packed = self._content.lm.max_length, item.leaf in self._packed
        return likelihood_rows(pairs, [None] * len(pairs), packed=packed, max_length=length, first=first)

    def _chunks(
        self, everything: Sequence[tuple[GoldItem, list[TokenRow]]]
    ) -> Iterator[list[tuple[GoldItem, list[TokenRow]]]]:
        most = self._tokens * LOGITS_PER_TOKEN // self._content.lm.vocab_size
        chunk: list[tuple[GoldItem, list[TokenRow]]] = []
        rows = scored = longest = 0
        for item, own in everything:
            longest = max(longest, *(row.length for row in own))
            rows, scored = rows + len(own), scored + sum(row.scored for row in own)
            if chunk and (rows * longest > self._tokens or scored > most):
                yield chunk
                chunk, rows, scored = [], len(own), sum(row.scored for row in own)
                longest = max(row.length for row in own)
            chunk.append((item, own))
        if chunk:
            yield chunk

    def _batch(self, chunk: Sequence[tuple[GoldItem, list[TokenRow]]], shares: Mapping[str, float]) -> GoldBatch:
        device = self._content.lm.device
        items = tuple(item for item, _ in chunk)
        requests = [request for item in items for request in item.requests]
        rows: list[TokenRow] = []
        for item in items:
            rows += self._rows(item, sum(len(row.answers) for row in rows))
        unlimited = 1 << 62
        batches = make_batches(rows, tokens=unlimited, logits=unlimited, device=device)
        return GoldBatch(
            items,
            torch.tensor([shares[item.leaf] for item in items], device=device),
            batches,
            tuple(_candidates(batch, [requests[number].ends for number in batch.requests]) for batch in batches),
        )


def _candidates(batch: Batch, ends: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """The tokens that may stand at each position, (m, k), padded with the target; and which are no padding."""
    width = max(1, *(len(tokens) for tokens in ends))
    candidates = batch.targets[:, None].repeat(1, width)
    valid = torch.zeros_like(candidates, dtype=torch.bool)
    valid[:, 0] = True
    lasts = [*(batch.starts[1:] - 1).tolist(), len(batch.targets) - 1]
    for last, tokens in zip(lasts, ends, strict=True):
        if tokens:
            candidates[last, : len(tokens)] = torch.tensor(tokens, device=candidates.device)
            valid[last, : len(tokens)] = True
    return candidates, valid


def _logits(model: Any, batch: Batch) -> Tensor:
    """(scored positions, vocabulary), in float32 at least."""
    inputs: dict[str, Any] = {}
    if batch.branches is not None:
        inputs = {"attention_mask": Attention.of(model).masks(batch), "position_ids": batch.positions}

    def read(hidden: Tensor) -> Tensor:
        return hidden.reshape(1, -1, hidden.shape[-1])[:, batch.scored.to(hidden.device)]

    with head_reads(model, read):
        logits = model(batch.tokens, use_cache=False, **inputs).logits[0]
    return logits if logits.dtype == torch.float64 else logits.float()
