"""The gold answers of a task's items, with the prompts that the scorer sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..inference.stop_strings import StopConditions
from ..lm_eval_bridge.isolation import greedy_generation_config
from ..lm_eval_bridge.live_hflm import LiveLM
from ..tasks.requests import Request
from ..tasks.suite_content import LeafTask
from .gold_text import delimiter, gold_choices, gold_text

Kind = Literal["answer", "choices", "text"]


@dataclass(frozen=True)
class GoldRequest:
    """Tokens to predict after a context.

    If `ends` is not empty, any of its tokens is accepted in place of the last one: each of them ends an answer.
    """

    context: tuple[int, ...]
    tokens: tuple[int, ...]
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class GoldItem:
    """The input to the loss of one item, or of one window of a long document.

    Attributes:
        leaf: the task's name.
        doc: lm-eval's document id.
        kind: "answer": one request, which greedy decoding should give; "choices": one request per choice; "text": a
            window of a document, or a continuation whose log-likelihood is the score.
        requests: the predicted tokens with their contexts.
        factors: the factor of each request's log-likelihood. With C choices, the score of a choice is the sum of every
            C-th product, so that unconditional log-likelihoods can be subtracted; a text's factor is 1 / (tokens of
            the document).
        golds: the indices of the right choices.
    """

    leaf: str
    doc: int
    kind: Kind
    requests: tuple[GoldRequest, ...]
    factors: tuple[float, ...] = ()
    golds: tuple[int, ...] = ()


def gold_items(leaf: LeafTask, doc: int, lm: LiveLM, *, chat: bool) -> list[GoldItem]:
    """Return the gold item of a document, or one per window if the document is read in windows; their losses add up.

    Args:
        leaf: the task.
        doc: lm-eval's document id.
        lm: lm-eval's model interface, with a model of the candidates' shape attached.
        chat: whether prompts are formatted as chats.

    Raises:
        UnsupportedError: the document has no gold answer.
    """
    requests, name = leaf.requests[doc], leaf.task.task_name
    first = requests[0]
    if first.is_generation:
        return [GoldItem(name, doc, "answer", (_generated(leaf, doc, first, lm, chat=chat),))]
    if first.tokens is not None:
        windows = [_pair(window[1], window[2]) for window in lm.windows(first.tokens)]
        factor = 1.0 / max(1, sum(len(window.tokens) for window in windows))
        return [GoldItem(name, doc, "text", (window,), (factor,)) for window in windows]
    pairs = tuple(_pair(request.pair[1], request.pair[2]) for request in requests if request.pair is not None)
    if leaf.task.OUTPUT_TYPE == "multiple_choice":
        return [_choices(leaf, doc, pairs)]
    if leaf.metric.name == "perplexity":
        return [GoldItem(name, doc, "text", pairs[:1], (1.0 / max(1, len(pairs[0].tokens)),))]
    return [GoldItem(name, doc, "answer", pairs[:1])]


def _choices(leaf: LeafTask, doc: int, pairs: tuple[GoldRequest, ...]) -> GoldItem:
    name, metric = leaf.task.task_name, leaf.metric.name
    choices, golds = gold_choices(leaf.task, leaf.items.docs[doc])
    if metric == "exact_match":  # scores whether greedy decoding gives the right choice
        return GoldItem(name, doc, "answer", (pairs[golds[0]],))
    lengths = [1] * len(choices)
    if metric == "acc_norm":
        lengths = [len(choice) for choice in choices]
    elif metric == "acc_bytes":
        lengths = [len(choice.encode()) for choice in choices]
    factors = [1.0 / max(1, length) for length in lengths]
    if metric == "acc_mutual_info":
        factors += [-1.0] * len(choices)
    return GoldItem(name, doc, "choices", pairs[: len(factors)], tuple(factors), golds)


def _generated(leaf: LeafTask, doc: int, request: Request, lm: LiveLM, *, chat: bool) -> GoldRequest:
    prompt, settings = request.arguments[:2]
    stops = StopConditions(settings, lm)
    document = leaf.items.docs[doc]
    answer = gold_text(leaf.task, document, stops.strings)
    answer = delimiter(leaf.task, document, answer, chat=chat) + answer
    before = request.prompt or []
    tokens = _continuation(lm, prompt, before, answer)[: stops.limit]
    context = tuple(before[-(lm.max_length - stops.limit) :])
    if len(tokens) == stops.limit:  # the answer ends at the token limit, without an end token
        return GoldRequest(context, tuple(tokens))
    ends = _ends(lm, answer, stops.strings)
    return GoldRequest(context, (*tokens, ends[0]), ends)


def _continuation(lm: LiveLM, prompt: str, before: Sequence[int], answer: str) -> list[int]:
    """Return the tokens of the answer after its prompt, or of the answer alone if a token spans both."""
    whole = lm.tok_batch_encode([prompt + answer])[0][0].tolist()
    if whole[: len(before)] == list(before):
        return whole[len(before) :]
    return lm.tokenizer.encode(answer, add_special_tokens=False)


def _ends(lm: LiveLM, answer: str, strings: Sequence[str]) -> tuple[int, ...]:
    """Return the tokens after which generation stops, and the first token of each stop string."""
    ends = list(greedy_generation_config(lm.model, lm.tokenizer).eos_token_id or ())
    ends += lm.special_stops(strings)
    answer_tokens = lm.tokenizer.encode(answer, add_special_tokens=False)
    for string in filter(None, strings):
        both = lm.tokenizer.encode(answer + string, add_special_tokens=False)
        separate = both[: len(answer_tokens)] == answer_tokens and len(both) > len(answer_tokens)
        continuation = both[len(answer_tokens) :] if separate else lm.tokenizer.encode(string, add_special_tokens=False)
        ends += continuation[:1]
    return tuple(dict.fromkeys(ends))


def _pair(context: Sequence[int], tokens: Sequence[int]) -> GoldRequest:
    return GoldRequest(tuple(context), tuple(tokens))
