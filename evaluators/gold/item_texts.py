"""Prompts and expected answers of items as text, to show beside the answers of candidates."""

from __future__ import annotations

from contextlib import suppress

from ..records import ItemText
from ..tasks.suite_content import LeafTask
from .gold_text import gold_choices, gold_text

MAX_CHARACTERS = 2000  # of a prompt; its beginning, such as few-shot examples, is cut off


def item_text(leaf: LeafTask, doc: int) -> ItemText:
    """Return the text of one item; `doc` is lm-eval's document id."""
    prompt = str(leaf.requests[doc][0].arguments[0])
    shown = prompt if len(prompt) <= MAX_CHARACTERS else f"…{prompt[-MAX_CHARACTERS:]}"
    gold = ""
    with suppress(Exception):  # raised by the task's code: a task may define no target that is text
        gold = _gold(leaf, doc)
    return ItemText(shown, gold[:MAX_CHARACTERS])


def _gold(leaf: LeafTask, doc: int) -> str:
    request = leaf.requests[doc][0]
    if request.tokens is not None:
        return ""
    if request.is_generation:
        return gold_text(leaf.task, request.instance.doc, ())
    choices, right = gold_choices(leaf.task, request.instance.doc)
    return " / ".join(str(choices[index]) for index in right)
