"""Gold answers as an lm-eval task defines them: the text of a generated answer, the indices of right choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.task import ConfigurableTask
from lm_eval.api.utils import requires_delimiter

from ..records import UnsupportedError


def gold_text(task: ConfigurableTask, doc: Mapping[str, Any], stops: Sequence[str]) -> str:
    """Return the text of the first target that `doc_to_target` gives, up to the first stop string.

    Raises:
        UnsupportedError: there is no target, or its text is empty.
    """
    gold: Any = task.doc_to_target(doc)
    if isinstance(gold, int) and not isinstance(gold, bool) and task.config.doc_to_choice is not None:
        gold = task.doc_to_choice(doc)[gold]
    if isinstance(gold, (list, tuple)):
        gold = gold[0] if gold else None
    text = "" if gold is None else str(gold)
    for stop in filter(None, stops):
        text = text.split(stop)[0]
    if not text:
        raise UnsupportedError("doc_to_target gives no text to use as the answer")
    return text


def delimiter(task: ConfigurableTask, doc: Mapping[str, Any], answer: str, *, chat: bool) -> str:
    """Return the text between a prompt and its answer in few-shot examples."""
    prefix = task.doc_to_prefix(doc)
    if prefix:
        return " " if requires_delimiter(prefix, answer) else ""
    return "" if chat else task.config.target_delimiter


def gold_choices(task: ConfigurableTask, doc: Mapping[str, Any]) -> tuple[list[str], tuple[int, ...]]:
    """Return the choices and the indices of the right ones, by lm-eval's rules.

    Raises:
        UnsupportedError: no choice is right.
    """
    choices = task.doc_to_choice(doc)
    gold: Any = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    golds = gold if isinstance(gold, list) else [gold]
    indices = [choices.index(gold) if isinstance(gold, str) and gold in choices else gold for gold in golds]
    right = tuple(index for index in indices if isinstance(index, int) and 0 <= index < len(choices))
    if not right:
        raise UnsupportedError("doc_to_target names none of the choices")
    return choices, right
