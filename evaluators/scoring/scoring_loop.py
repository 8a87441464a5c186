"""The scoring loop: runs a block's requests through the model, then filters and metrics, to per-item values."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..inference.cuda_graphs import GraphCache
from ..inference.device_errors import is_out_of_memory, release
from ..inference.generate import Generated
from ..inference.prefix_cache import PrefixCaches
from ..lm_eval_bridge.isolation import inside_lm_eval, pinned_generation
from ..records import Block, BlockScores, ScoringError
from ..tasks.suite_content import SuiteContent
from .answer_texts import answer_texts
from .item_values import leaf_scores
from .leaf_requests import LeafRequests
from .prepared_requests import PreparedRequests
from .scorers import ScoringPlan


class ScoringLoop:
    """Scores blocks by a plan, on models of one shape. A block's requests are prepared on first use."""

    def __init__(self, content: SuiteContent, plan: ScoringPlan) -> None:
        self.content, self.plan = content, plan
        self._prepared: dict[Any, PreparedRequests] = {}
        self._caches: PrefixCaches | None = None
        self._graphs = GraphCache()
        self._weights: object = None

    def score(self, model: Any, block: Block, weights: object) -> BlockScores:
        """Score one block on the model's present weights; the model is attached to the content's LiveLM.

        See `Suite.score` for `weights`.

        Raises:
            ScoringError: non-finite outputs, a metric that fails on an answer, a failing Python objective, or too
                little memory even for half of the token budget.
        """
        started = time.perf_counter()
        if weights is None or weights != self._weights or self._caches is None or self._caches.model is not model:
            self._caches, self._weights = PrefixCaches(model, self.plan.token_budget), weights
        leaves = {name: ids for name, ids in block.items.items() if name in self.content.leaves}
        with inside_lm_eval(), pinned_generation(model, self.content.lm.tokenizer):
            texts, smaller = self._answer(model, block, leaves, self._caches)
            items = {name: leaf_scores(self.content.leaves[name], ids, texts) for name, ids in leaves.items()}
            if block.part == "report":  # answers on other items are shown nowhere
                items = {
                    name: replace(found, answers=answer_texts(self.content.leaves[name], leaves[name], texts))
                    for name, found in items.items()
                }
            for name in block.items:
                if name in self.content.objectives:
                    items[name] = self.content.objectives[name].score(model, self.content.lm.tokenizer, block.part)
        return BlockScores(block.part, block.index, items, time.perf_counter() - started, smaller)

    def _answer(
        self, model: Any, block: Block, leaves: Mapping[str, Sequence[int]], caches: PrefixCaches
    ) -> tuple[Mapping[int, Sequence[Generated]], bool]:
        """Return the generated texts by id of the instance, and whether smaller batches were needed."""
        key = block.part, block.index, tuple(leaves.items())
        try:
            if key not in self._prepared:
                self._prepared[key] = self._prepare(leaves, self.plan.token_budget)
            return self._prepared[key].run(model, caches, self._graphs), False
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        caches.clear()
        self._graphs.clear()
        release()  # outside the handler, whose exception keeps the failed attempt's tensors alive
        less = self.plan.token_budget // 2
        try:
            with self.content.lm.smaller_batches():
                return self._prepare(leaves, less).run(model, caches, self._graphs), True
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        release()
        names = {self.plan.scorers[leaf].name for leaf in leaves}
        advice = [f"scoring.token_budget below {less}"] if names - {"hf"} else []
        if "hf" in names:
            advice.append(f"scoring.batch_size below {max(2, self.content.lm.batch_size_per_gpu // 2)}")
        raise ScoringError(f"out of memory, also with batches of half the size; set {' and '.join(advice)}")

    def _prepare(self, leaves: Mapping[str, Sequence[int]], token_budget: int) -> PreparedRequests:
        content = self.content
        leaf_requests = [
            LeafRequests.of(content.leaves[name], ids, self.plan.scorers[name]) for name, ids in leaves.items()
        ]
        return PreparedRequests.prepare(
            leaf_requests, content.lm, token_budget=token_budget, share_logits=content.share_logits
        )
