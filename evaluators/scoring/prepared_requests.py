"""The requests of a block, arranged once for each scorer; every candidate is scored on the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..inference.cuda_graphs import GraphCache
from ..inference.generate import Generated
from ..inference.prefix_cache import PrefixCaches
from ..lm_eval_bridge.live_hflm import LiveLM
from ..tasks.requests import Request
from .generation_requests import GenerationRequests
from .hflm_scorer import hflm_answers
from .leaf_requests import LeafRequests
from .likelihood_requests import LikelihoodRequests


@dataclass(frozen=True)
class PreparedRequests:
    """The requests of some leaves, ready to be scored on any model of the shape they were prepared for.

    Attributes:
        requests: all of them.
        likelihoods: those of the scorers "packed" and "rows".
        generations: those of the scorers "graphs" and "loop".
        hflm: those of the scorer "hf".
        lm: lm-eval's model interface, with the candidate attached.
        share_logits: see `LiveLM.score_pairs`.
    """

    requests: tuple[Request, ...]
    likelihoods: LikelihoodRequests
    generations: GenerationRequests
    hflm: tuple[Request, ...]
    lm: LiveLM
    share_logits: bool

    @classmethod
    def prepare(
        cls, leaves: Sequence[LeafRequests], lm: LiveLM, *, token_budget: int, share_logits: bool
    ) -> PreparedRequests:
        """Arrange the requests of several leaves.

        Args:
            leaves: the requests and their scorers.
            lm: with a model of the candidates' shape attached.
            token_budget: the most tokens in a batch.
            share_logits: see `LiveLM.score_pairs`.

        Raises:
            UnsupportedError: a task's generation settings are not plain greedy decoding.
        """
        likelihoods = [leaf for leaf in leaves if leaf.scorer.name in ("packed", "rows")]
        generations = [leaf for leaf in leaves if leaf.scorer.name in ("graphs", "loop")]
        return cls(
            requests=tuple(request for leaf in leaves for request in leaf.requests),
            likelihoods=LikelihoodRequests.prepare(likelihoods, lm, token_budget=token_budget),
            generations=GenerationRequests.prepare(generations, lm, token_budget=token_budget),
            hflm=tuple(request for leaf in leaves if leaf.scorer.name == "hf" for request in leaf.requests),
            lm=lm,
            share_logits=share_logits,
        )

    def run(self, model: Any, caches: PrefixCaches, graphs: GraphCache) -> dict[int, list[Generated]]:
        """Score the model and store each request's answers in its instance, replacing the previous candidate's.

        Args:
            model: the candidate.
            caches: prefix caches computed with the model's present weights.
            graphs: captured decode steps; those of earlier candidates can be replayed.

        Returns:
            The generated texts by id of the instance.

        Raises:
            ScoringError: NaN or infinite log-likelihoods or logits.
        """
        for request in self.requests:
            request.clear()
        self.likelihoods.run(model, caches)
        texts = self.generations.run(model, caches, graphs)
        if self.hflm:
            generations = [request for request in self.hflm if request.is_generation]
            answers = hflm_answers(self.lm, self.hflm, share_logits=self.share_logits)
            texts |= {id(request.instance): found for request, found in zip(generations, answers, strict=True)}
        return texts
