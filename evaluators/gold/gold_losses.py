"""Losses of the gold answers of a suite's items, in batches small enough for a backward pass."""

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
from .loss_forms import Form, RequestScore, item_losses, needs, token_likelihoods, token_margins

# Elements of the logits matrix per token of a batch; fewer than in scoring, since a backward pass needs copies.
LOGITS_PER_TOKEN = 2048


@dataclass(frozen=True)
class GoldBatch:
    """Items whose losses are computed and backpropagated together.

    Attributes:
        items: the items. Each window of a long document is an item; their losses add up.
        weights: (items,) float32, the weight of each item in the total loss; over the documents of all batches, the
            weights sum to 1.
        batches: the batches that the model reads.
        candidates: for each of `batches`, the tokens accepted at each position, (m, k), and a mask (m, k) that is False
            for padding.
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
            likelihood = token_likelihoods(logits, candidates, valid) if likelihoods else None
            margin = token_margins(logits, candidates, valid) if margins else None
            ends = [*batch.starts[1:].tolist(), len(batch.targets)]
            for request, start, end in zip(batch.requests, batch.starts.tolist(), ends, strict=True):
                total = None if likelihood is None else likelihood[start:end].sum()
                scores[request] = RequestScore(total, None if margin is None else margin[start:end].amin(), end - start)
        return item_losses(self.items, scores, form)


class GoldLosses:
    """The gold answers of some items of a suite, arranged in batches once for all candidates of one shape.

    Attributes:
        batches: longest items first.
        missing: task or objective -> the number of its items that are left out, and why.
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
            content: the content of the suite.
            model: a model of the candidates' shape; its weights do not matter.
            items: task -> document ids, as in `Block.items`.
            tokens: the most tokens in a batch, padding included; a longer item gets a separate batch.
            packed: tasks whose choices share a row with their prompt.
        """
        self._content, self._tokens, self._packed = content, tokens, packed
        self.missing: dict[str, str] = {}
        content.lm.attach(model)
        with inside_lm_eval():
            by_leaf = {leaf: gold for leaf, ids in items.items() if (gold := self._items(leaf, ids))}
        shares = self._shares({leaf: len({item.doc for item in gold}) for leaf, gold in by_leaf.items()})
        with_rows = [(item, self._rows(item)) for gold in by_leaf.values() for item in gold]
        with_rows.sort(key=lambda pair: -max(row.length for row in pair[1]))
        self.batches = tuple(self._batch(chunk, shares) for chunk in self._chunks(with_rows))

    def _items(self, leaf: str, ids: Sequence[int]) -> list[GoldItem]:
        if leaf not in self._content.leaves:
            self.missing[leaf] = "a Python objective has no gold answers"
            return []
        items: list[GoldItem] = []
        reasons: list[str] = []
        for doc in ids:
            try:
                chat = self._content.config.chat.apply_template
                items += gold_items(self._content.leaves[leaf], doc, self._content.lm, chat=chat)
            except UnsupportedError as error:
                reasons.append(str(error))
            except Exception as error:  # raised by templates and functions of the task
                reasons.append(f"its gold answer cannot be built: {type(error).__name__}: {error}")
        if reasons:
            self.missing[leaf] = f"{len(reasons)} of {len(ids)} items: {reasons[0]}"
        return items

    def _shares(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Return task -> the weight of one of its documents; `counts` is task -> number of documents used."""
        shares: dict[str, float] = {}
        for entry in self._content.entries:
            leaves = [leaf for leaf in entry.leaves if leaf.name in counts]
            total = sum(leaf.share for leaf in leaves)
            shares |= {leaf.name: entry.weight * leaf.share / total / counts[leaf.name] for leaf in leaves}
        norm = sum(shares[leaf] * count for leaf, count in counts.items())
        return {leaf: share / norm for leaf, share in shares.items()}

    def _rows(self, item: GoldItem, first: int = 0) -> list[TokenRow]:
        """Return the rows of an item, whose requests are numbered from `first` on."""
        pairs = [(None, request.context, request.tokens) for request in item.requests]
        length, packed = self._content.lm.max_length, item.leaf in self._packed
        return likelihood_rows(pairs, [None] * len(pairs), packed=packed, max_length=length, first=first)

    def _chunks(
        self, with_rows: Sequence[tuple[GoldItem, list[TokenRow]]]
    ) -> Iterator[list[tuple[GoldItem, list[TokenRow]]]]:
        most_scored = self._tokens * LOGITS_PER_TOKEN // self._content.lm.vocab_size
        chunk: list[tuple[GoldItem, list[TokenRow]]] = []
        rows = scored = longest = 0
        for item, item_rows in with_rows:
            longest = max(longest, *(row.length for row in item_rows))
            rows, scored = rows + len(item_rows), scored + sum(row.scored for row in item_rows)
            if chunk and (rows * longest > self._tokens or scored > most_scored):
                yield chunk
                chunk, rows, scored = [], len(item_rows), sum(row.scored for row in item_rows)
                longest = max(row.length for row in item_rows)
            chunk.append((item, item_rows))
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
    """Return the tokens accepted at each position, (m, k), padded with the target, and a mask that excludes padding."""
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
    """Return the logits of a batch, (scored positions, vocabulary), in float32 or float64."""
    inputs: dict[str, Any] = {}
    if batch.branches is not None:
        inputs = {"attention_mask": Attention.of(model).masks(batch), "position_ids": batch.positions}

    def read(hidden: Tensor) -> Tensor:
        return hidden.reshape(1, -1, hidden.shape[-1])[:, batch.scored.to(hidden.device)]

    with head_reads(model, read):
        logits = model(batch.tokens, use_cache=False, **inputs).logits[0]
    return logits if logits.dtype == torch.float64 else logits.float()
