"""Gold answers as an lm-eval task has them: the text of a generated answer, the places of right choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.task import ConfigurableTask
from lm_eval.api.utils import requires_delimiter

from ..records import UnsupportedError


def gold_text(task: ConfigurableTask, doc: Mapping[str, Any], stops: Sequence[str]) -> str:
    """Return the text that `doc_to_target` gives, up to the first stop string; of several targets the first.

    Raises:
        UnsupportedError: there is none.
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
        raise UnsupportedError("doc_to_target gives no text that an answer could be")
    return text


def delimiter(task: ConfigurableTask, doc: Mapping[str, Any], answer: str, *, chat: bool) -> str:
    """Return what few-shot examples have between a prompt and its answer."""
    prefix = task.doc_to_prefix(doc)
    if prefix:
        return " " if requires_delimiter(prefix, answer) else ""
    return "" if chat else task.config.target_delimiter


def gold_choices(task: ConfigurableTask, doc: Mapping[str, Any]) -> tuple[list[str], tuple[int, ...]]:
    """Return the choices and the places of the right ones, by lm-eval's own rules.

    Raises:
        UnsupportedError: no choice is right.
    """
    choices = task.doc_to_choice(doc)
    gold: Any = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    golds = gold if isinstance(gold, list) else [gold]
    places = [choices.index(one) if isinstance(one, str) and one in choices else one for one in golds]
    known = tuple(place for place in places if isinstance(place, int) and 0 <= place < len(choices))
    if not known:
        raise UnsupportedError("doc_to_target names none of the choices")
    return choices, known
