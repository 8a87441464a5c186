"""The report items that the winner won and lost against the best parent, with examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ....evaluators import ItemText, Scores, TaskEntry
from ...run_folder.answer_file import ReportAnswers
from ...run_folder.item_matrix import shared
from ..drawing.svg import element, picture, shortened, text, tooltip
from ..facts import RunFacts
from ..section import Section

MAX_EXAMPLES = 10  # of each kind and task
WIDTH, LEFT, RIGHT, ROW, BAR = 760, 200, 740, 30, 18
KINDS = ("won", "same", "lost")


@dataclass(frozen=True)
class Example:
    """An item that one of the two models answers better. The texts are None if they are not shown or not recorded."""

    leaf: str
    item: str
    parent: float
    winner: float
    text: ItemText | None = None
    parent_answer: str | None = None
    winner_answer: str | None = None


@dataclass(frozen=True)
class TaskItems:
    """The items of one task on which the winner is better (`won`) or worse (`lost`), clearest first."""

    task: str
    won: Sequence[Example]
    lost: Sequence[Example]
    same: int

    def count(self, kind: str) -> int:
        """Return how many items are "won", "lost" or the "same"."""
        return {"won": len(self.won), "lost": len(self.lost), "same": self.same}[kind]


def section(facts: RunFacts) -> Section:
    """Return the section; it is empty before the verdict, or if a parent is the winner."""
    found: list[TaskItems] = []
    parent = None if facts.verdict is None else facts.by_number.get(facts.verdict["best_parent"]["trial"])
    winner = facts.winner
    if parent is not None and winner is not None and parent.number != winner.number:
        pair = facts.items(winner, "report"), facts.items(parent, "report")
        if pair[0] is not None and pair[1] is not None:
            numbers = winner.number, parent.number
            found = [_task(entry, *shared(pair[0], pair[1]), numbers, facts.answers) for entry in facts.entries]
    content = {
        "picture": _picture(found) if found else None,
        "tasks": found,
        "most": MAX_EXAMPLES,
        "parent": "" if parent is None else parent.label,
        "texts": facts.answers is not None,
    }
    return Section("won_and_lost", "Items won and lost", content)


def _task(
    entry: TaskEntry, mine: Scores, other: Scores, numbers: tuple[int, int], answers: ReportAnswers | None
) -> TaskItems:
    won: list[Example] = []
    lost: list[Example] = []
    same = 0
    for leaf in entry.leaves:
        items = mine.items.get(leaf.name)
        if items is None or items.values.ndim > 1:
            continue
        for item, a, b in zip(items.ids, items.values.tolist(), other.items[leaf.name].values.tolist(), strict=True):
            gain = entry.sign * (a - b)
            if gain == 0 or gain != gain:
                same += 1
                continue
            example = Example(leaf.name, item, b, a, *_texts(answers, leaf.name, item, numbers))
            (won if gain > 0 else lost).append(example)
    return TaskItems(entry.name, sorted(won, key=_clearness), sorted(lost, key=_clearness), same)


def _clearness(example: Example) -> float:
    return -abs(example.winner - example.parent)


def _texts(
    answers: ReportAnswers | None, leaf: str, item: str, numbers: tuple[int, int]
) -> tuple[ItemText | None, str | None, str | None]:
    """Return the text of an item, and the answers of the parent and the winner."""
    if answers is None:
        return None, None, None
    winner, parent = (_answers(answers, number, leaf).get(item) for number in numbers)
    return answers.items.get(leaf, {}).get(item), parent, winner


def _answers(answers: ReportAnswers, number: int, leaf: str) -> Mapping[str, str]:
    return answers.by_trial.get(number, {}).get(leaf, {})


def _picture(tasks: Sequence[TaskItems]) -> Markup:
    parts: list[Markup] = []
    for r, task in enumerate(tasks):
        y, x = 4 + r * ROW, float(LEFT)
        parts.append(text(LEFT - 12, y + 13, shortened(task.task, LEFT - 24), class_="label", text_anchor="end"))
        total = sum(task.count(kind) for kind in KINDS) or 1
        for kind in KINDS:
            count = task.count(kind)
            width = (RIGHT - LEFT) * count / total
            if count:
                title = tooltip(f"{task.task}: {count} {kind}")
                parts.append(element("rect", *title, x=x, y=y, width=width, height=BAR, class_=kind))
            if width > 24:
                ink = "label" if kind == "same" else "inverse"
                parts.append(text(x + width / 2, y + 13, str(count), class_=ink, text_anchor="middle"))
            x += width
    return picture(WIDTH, 8 + len(tasks) * ROW, "Items won, the same, and lost, per task", parts)
