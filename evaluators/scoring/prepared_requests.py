"""The requests of a block, arranged once: batches for each scorer, in the order in which every candidate meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..inference.batches import Batch, make_batches
from ..inference.cuda_graphs import GraphCache, Replayed
from ..inference.generate import Generated, Growing, NonFiniteRowError, Prompt, PromptBatch, generate, prompt_batches
from ..inference.likelihood import Scored, log_likelihoods
from ..inference.prefix_cache import PrefixCaches
from ..inference.rows import TokenRow, likelihood_rows
from ..inference.stop_strings import StopConditions
from ..lm_eval_bridge.isolation import generation_config
from ..lm_eval_bridge.live_hflm import LiveLM, Pair
from ..records import ScoringError
from ..tasks.requests import Request
from .hflm_scorer import check_finite, harness_answers, item_name
from .scorers import Scorer

LOGITS_PER_TOKEN = 8192  # entries of the logits' matrix that a token of the budget allows for


class PreparedRequests:
    """The requests of some leaves, ready for one candidate after another of the same shape."""

    def __init__(
        self,
        requests: Mapping[str, Sequence[Request]],
        scorers: Mapping[str, Scorer],
        prefixes: Mapping[str, tuple[int, ...]],
        lm: LiveLM,
        *,
        token_budget: int,
        share_logits: bool,
    ) -> None:
        """Arrange the requests.

        Args:
            requests: leaf name -> its requests.
            scorers: leaf name -> its scorer.
            prefixes: leaf name -> the start that its prompts share, where there is one.
            lm: with a model of the candidates' shape attached.
            token_budget: the most tokens in a batch.
            share_logits: see `LiveLM.score_pairs`.

        Raises:
            UnsupportedError: a leaf's generation settings are not for the loop.
        """
        self.lm, self.share_logits = lm, share_logits
        self.requests = [request for found in requests.values() for request in found]
        self.harness = [r for leaf, found in requests.items() if scorers[leaf].name == "hf" for r in found]
        self.scored: list[Request] = []  # whose pair or window each number in the batches is
        self.documents: list[Request] = []
        self.prompts: list[Request] = []
        rows: list[TokenRow] = []
        prompts: list[Prompt] = []
        stops: dict[str, StopConditions] = {}
        for leaf, found in requests.items():
            scorer = scorers[leaf]
            prefix = prefixes.get(leaf, ()) if scorer.prefix else ()
            if scorer.name in ("graphs", "loop"):
                prompts += self._prompts(found, prefix, stops, steps=scorer.name == "graphs")
            elif scorer.name != "hf":
                rows += self._rows(found, prefix, packed=scorer.name == "packed")
        logits = token_budget * LOGITS_PER_TOKEN // lm.vocab_size
        self.likelihood_batches: tuple[Batch, ...] = make_batches(
            rows, tokens=token_budget, logits=logits, device=lm.device
        )
        self.prompt_batches: tuple[PromptBatch, ...] = prompt_batches(prompts, tokens=token_budget, device=lm.device)

    def run(self, model: Any, caches: PrefixCaches, steps: GraphCache) -> dict[int, list[Generated]]:
        """Put each request's answers into its instance's `resps`, in place of a former candidate's.

        `caches` are the model's, of its present weights; `steps` may hold those of former
        candidates.
        Returns the generated texts by id of the instance.

        Raises:
            ScoringError: NaN or infinite log-likelihoods or logits.
        """
        for request in self.requests:
            request.instance.resps, request.instance.filtered_resps = [], {}
        greedy = any(request.tokens is None for request in self.scored)  # documents are asked for their sum alone
        self._likelihoods(log_likelihoods(model, self.likelihood_batches, caches, greedy=greedy))
        texts = self._generations(model, caches, steps)
        if self.harness:
            generations = [request for request in self.harness if request.is_generation]
            answers = harness_answers(self.lm, self.harness, share_logits=self.share_logits)
            texts |= {id(request.instance): found for request, found in zip(generations, answers, strict=True)}
        return texts

    def _rows(self, requests: Sequence[Request], prefix: tuple[int, ...], *, packed: bool) -> list[TokenRow]:
        asked: list[tuple[Request, Pair]] = []
        for request in requests:
            found = [request.pair] if request.pair is not None else self.lm.windows(request.tokens or [])
            asked += [(request, pair) for pair in found]
        rows = likelihood_rows(
            [pair for _, pair in asked],
            [request.instance.doc_id for request, _ in asked],
            packed=packed,
            max_length=self.lm.max_length,
            prefix=prefix,
            first=len(self.scored),
        )
        self.scored += [request for request, _ in asked]
        self.documents += [request for request in requests if request.tokens is not None]
        return rows

    def _prompts(
        self, requests: Sequence[Request], prefix: tuple[int, ...], known: dict[str, StopConditions], *, steps: bool
    ) -> list[Prompt]:
        prompts = []
        for request in requests:
            settings = request.arguments[1]
            if (key := str(settings)) not in known:
                known[key] = StopConditions(settings, self.lm)
            stops = known[key]
            # As in lm-eval, a prompt gives way on the left to the longest answer.
            tokens = tuple((request.prompt or [])[-(self.lm.max_length - stops.limit) :])
            shared = len(prefix) if len(tokens) > len(prefix) and tokens[: len(prefix)] == prefix else 0
            prompts.append(Prompt(len(self.prompts), tokens, stops, shared, steps))
            self.prompts.append(request)
        return prompts

    def _likelihoods(self, found: Mapping[int, Scored]) -> None:
        documents = {id(request): 0.0 for request in self.documents}
        for number, request in enumerate(self.scored):
            value, greedy = found[number]
            check_finite(value, request.instance)
            if request.tokens is None:
                request.instance.resps = [(value, greedy)] * request.repeats
            else:
                documents[id(request)] += value
        for request in self.documents:
            request.instance.resps = [documents[id(request)]] * request.repeats

    def _generations(self, model: Any, caches: PrefixCaches, steps: GraphCache) -> dict[int, list[Generated]]:
        if not self.prompts:
            return {}
        ends = frozenset(generation_config(model, self.lm.tokenizer).eos_token_id or ())

        def begin(batch: PromptBatch) -> Growing:
            return Replayed(model, batch, caches, steps) if batch.steps else Growing(model, batch, caches)

        try:
            found = generate(self.prompt_batches, begin, ends)
        except NonFiniteRowError as error:
            place = item_name(self.prompts[error.request].instance)
            raise ScoringError(f"{place}: the model's logits are not finite") from None
        texts: dict[int, list[Generated]] = {}
        for number, request in enumerate(self.prompts):
            texts[id(request.instance)] = [found[number]] * request.repeats
            request.instance.resps = [found[number].text] * request.repeats
        return texts
