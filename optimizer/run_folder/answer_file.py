"""answers.jsonl: prompts, expected answers and the candidates' answers on the report items.

A line holds either the texts of all items, {"items": {leaf: {id: [prompt, gold]}}}, or the answers of one trial,
{"trial": number, "answers": {leaf: {id: answer}}}. Of repeated lines the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...evaluators import ItemText, Scores
from .atomic_files import json_line, read_lines
from .durable_files import DurableFiles
from .file_names import ANSWERS


@dataclass(frozen=True)
class ReportAnswers:
    """The recorded texts: leaf -> id -> text of the item, and trial -> leaf -> id -> answer."""

    items: Mapping[str, Mapping[str, ItemText]] = field(default_factory=dict)
    by_trial: Mapping[int, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)


def save_item_texts(files: DurableFiles, texts: Mapping[str, Mapping[str, ItemText]]) -> None:
    """Record the texts of the report items, unless they are recorded already; raises as `DurableFiles.extend`."""
    document = {leaf: {item: [text.prompt, text.gold] for item, text in found.items()} for leaf, found in texts.items()}
    if read_answers(files.folder).items != texts:
        files.extend(ANSWERS, json_line({"items": document}), sync=False)


def save_answers(files: DurableFiles, number: int, scores: Scores) -> None:
    """Record the answers of a trial; a trial without any adds no line. Raises as `DurableFiles.extend`."""
    answers = {
        leaf: dict(zip(items.ids, items.answers, strict=True)) for leaf, items in scores.items.items() if items.answers
    }
    if answers:
        files.extend(ANSWERS, json_line({"trial": number, "answers": answers}), sync=False)


def read_answers(folder: Path) -> ReportAnswers:
    """Return the texts that a run has recorded.

    Raises:
        UserError: a complete line is damaged.
    """
    lines: list[dict[str, Any]] = read_lines(folder / ANSWERS, json.loads)
    items = next((line["items"] for line in reversed(lines) if "items" in line), {})
    return ReportAnswers(
        {leaf: {item: ItemText(*text) for item, text in found.items()} for leaf, found in items.items()},
        {line["trial"]: line["answers"] for line in lines if "trial" in line},
    )
