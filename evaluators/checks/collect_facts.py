"""Collects the facts about a suite that explain suspicious scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..lm_eval_bridge.live_hflm import LiveLM
from ..tasks.suite_content import LeafTask, SuiteContent
from .suite_facts import LeafFacts, SuiteFacts, TokenizerDifference

MAX_TEXTS = 300  # texts whose token ids are compared
CONTEXT_TOKENS = 2  # tokens shown before the first differing one
EXAMPLE_TOKENS = 8  # tokens shown from the first differing one on
# In lm-eval these are 1 if the choice with the highest likelihood, by some normalization, is the right one.
_ACCURACIES = ("acc", "acc_norm", "acc_bytes")


def collect_facts(content: SuiteContent, tokenizer_file: Path, loaded: Any) -> SuiteFacts:
    """Return the facts about a suite.

    Args:
        content: the suite's content.
        tokenizer_file: the tokenizer.json of the model whose tokenizer the suite uses; it need not exist.
        loaded: the tokenizer that transformers loads from the folder of that file.
    """
    leaves = {name: _leaf_facts(leaf, content) for name, leaf in content.leaves.items()}
    difference = tokenizer_difference(tokenizer_file, loaded, _texts(content)) if tokenizer_file.is_file() else None
    has_template = bool(getattr(content.lm.tokenizer, "chat_template", None))
    return SuiteFacts(leaves, has_template, content.config.chat.apply_template, difference)


def tokenizer_difference(file: Path, loaded: Any, texts: Sequence[str]) -> TokenizerDifference | None:
    """Return how a loaded tokenizer differs from its tokenizer.json on some texts; None if it does not.

    Special tokens are not added, as settings in tokenizer_config.json may rightly replace those of the file.
    """
    raw = Tokenizer.from_file(str(file))
    raw.no_truncation()
    raw.no_padding()
    by_file = [raw.encode(text, add_special_tokens=False) for text in texts]
    ours = [loaded(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    differing = [i for i, encoded in enumerate(by_file) if encoded.ids != ours[i]]
    if not differing:
        return None
    first = differing[0]
    file_ids = by_file[first].ids
    same = next(i for i, (a, b) in enumerate(zip_longest(file_ids, ours[first])) if a != b)
    shown = slice(max(0, same - CONTEXT_TOKENS), same + EXAMPLE_TOKENS)
    spans = by_file[first].offsets[shown]
    example = texts[first][spans[0][0] : spans[-1][1]] if spans else ""
    return TokenizerDifference(len(texts), len(differing), example, tuple(file_ids[shown]), tuple(ours[first][shown]))


def _texts(content: SuiteContent) -> list[str]:
    """Return distinct prompts and answers of the search part, taken from all tasks in turn."""
    by_leaf = [
        [
            "".join(part for part in leaf.requests[doc][0].arguments[:2] if isinstance(part, str))
            for doc in content.document_ids(name, "search")[:MAX_TEXTS]
        ]
        for name, leaf in content.leaves.items()
    ]
    in_turn = dict.fromkeys(text for text in chain.from_iterable(zip_longest(*by_leaf)) if text)
    return list(islice(in_turn, MAX_TEXTS))


def _leaf_facts(leaf: LeafTask, content: SuiteContent) -> LeafFacts:
    settings = next((request.arguments[1] for request in leaf.all_requests() if request.is_generation), None)
    until = (settings or {}).get("until") or ()
    return LeafFacts(
        filter=leaf.metric.filter,
        chance=_chance(leaf, content.document_ids(leaf.task.task_name, "search")),
        limit=None if settings is None else content.lm.most_new_tokens(settings),
        stops=(until,) if isinstance(until, str) else tuple(until),
        missing_bos=_missing_bos(leaf, content.lm),
    )


def _chance(leaf: LeafTask, docs: Sequence[int]) -> float | None:
    if leaf.task.config.output_type != "multiple_choice" or leaf.metric.name not in _ACCURACIES or not docs:
        return None
    try:
        choices = [len(leaf.task.doc_to_choice(leaf.items.docs[doc])) for doc in docs]
    except Exception:  # raised by the task's code
        return None
    return sum(1 / count for count in choices) / len(choices) if min(choices) > 0 else None


def _missing_bos(leaf: LeafTask, lm: LiveLM) -> str:
    """Return the BOS token if the task's prompts lack it; empty if BOS and EOS are one token, as in GPT-2."""
    tokenizer: Any = lm.tokenizer
    bos = tokenizer.bos_token_id
    prompts = [request.prompt or (request.pair[1] if request.pair else None) for request in leaf.all_requests()]
    starts = {prompt[0] for prompt in prompts if prompt}
    return str(tokenizer.bos_token) if starts and bos not in {None, tokenizer.eos_token_id, *starts} else ""
