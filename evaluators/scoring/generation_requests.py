"""Generation requests arranged in batches, which every candidate then continues in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inference.cuda_graphs import GraphCache, GraphDecoder
from ..inference.generate import (
    Generated,
    LoopDecoder,
    NonFiniteRowError,
    Prompt,
    PromptBatch,
    generate,
    prompt_batches,
)
from ..inference.prefix_cache import PrefixCaches
from ..inference.stop_strings import StopConditions
from ..lm_eval_bridge.isolation import greedy_generation_config
from ..lm_eval_bridge.live_hflm import LiveLM
from ..records import ScoringError
from ..tasks.requests import Request
from .hflm_scorer import item_name
from .leaf_requests import LeafRequests


@dataclass(frozen=True)
class GenerationRequests:
    """Batches of prompts; their `requests` are indices into `requests`."""

    requests: tuple[Request, ...]
    batches: tuple[PromptBatch, ...]
    lm: LiveLM

    @classmethod
    def prepare(cls, leaves: Iterable[LeafRequests], lm: LiveLM, *, token_budget: int) -> GenerationRequests:
        """Arrange the requests of leaves whose scorer is "graphs" or "loop"; a batch holds `token_budget` tokens.

        Raises:
            UnsupportedError: a task's generation settings are not plain greedy decoding.
        """
        requests: list[Request] = []
        prompts: list[Prompt] = []
        stops: dict[str, StopConditions] = {}
        for leaf in leaves:
            for request in leaf.requests:
                settings = request.arguments[1]
                if (key := str(settings)) not in stops:
                    stops[key] = StopConditions(settings, lm)
                prompts.append(_prompt(len(requests), leaf, request, stops[key], lm.max_length))
                requests.append(request)
        return cls(tuple(requests), prompt_batches(prompts, tokens=token_budget, device=lm.device), lm)

    def run(self, model: Any, caches: PrefixCaches, graphs: GraphCache) -> dict[int, list[Generated]]:
        """Store each request's text in its instance; return the generations by id of the instance.

        Raises:
            ScoringError: a logit is NaN or infinite.
        """
        if not self.requests:
            return {}
        ends = frozenset(greedy_generation_config(model, self.lm.tokenizer).eos_token_id or ())

        def begin(batch: PromptBatch) -> LoopDecoder:
            return GraphDecoder(model, batch, caches, graphs) if batch.use_graphs else LoopDecoder(model, batch, caches)

        try:
            generated = generate(self.batches, begin, ends)
        except NonFiniteRowError as error:
            item = item_name(self.requests[error.request].instance)
            raise ScoringError(f"{item}: the model's logits are not finite") from None
        for number, request in enumerate(self.requests):
            request.answer(generated[number].text)
        return {id(r.instance): [generated[number]] * r.repeats for number, r in enumerate(self.requests)}


def _prompt(number: int, leaf: LeafRequests, request: Request, stops: StopConditions, max_length: int) -> Prompt:
    # As in lm-eval, a prompt is cut on the left to make room for the longest answer.
    tokens = tuple((request.prompt or [])[-(max_length - stops.limit) :])
    prefix = len(leaf.prefix)
    shared = prefix if len(tokens) > prefix and tokens[:prefix] == leaf.prefix else 0
    return Prompt(number, tokens, stops, shared, leaf.scorer.name == "graphs")
