"""Questions and answers on three subjects, for training and for the tasks; the same seed gives the same examples."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
KINDS = ("noun", "verb", "adjective", "adverb")
TEST_SHARE = 2  # one word in two, and one sum in two, is kept for the tasks


@dataclass(frozen=True)
class Example:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Subject:
    """One subject.

    Attributes:
        name: of the adapter, of the task and of the data.
        training: seed -> the examples that adapters are trained on.
        test: seed -> the examples that the task draws its documents from; no question is in both.
        choices: the answers offered; empty, the answer is generated.
        pattern: the part of a generated answer that is compared, as a regular expression whose last match counts.
        max_tokens: the length limit of a generated answer.
    """

    name: str
    training: Callable[[int], list[Example]]
    test: Callable[[int], list[Example]]
    choices: tuple[str, ...] = ()
    pattern: str = ""
    max_tokens: int = 0


def _countries(*questions: tuple[str, str]) -> Callable[[int], list[Example]]:
    """Examples of pairs (question with a place for the country, column of the answer), all countries of the table."""

    def examples(seed: int) -> list[Example]:
        found = [
            Example(text.format(row["country"]), row[column])
            for row in _table("countries.csv")
            for text, column in questions
        ]
        random.Random(f"countries {seed}").shuffle(found)
        return found

    return examples


def _words(*questions: str, test: bool) -> Callable[[int], list[Example]]:
    """Examples of questions with a place for the word, on one half of the words."""

    def examples(seed: int) -> list[Example]:
        found = []
        for kind in KINDS:
            words = [row["word"] for row in _table("words.csv") if row["kind"] == kind]
            random.Random(f"words {kind}").shuffle(words)
            kept = len(words) // TEST_SHARE
            half = words[:kept] if test else words[kept:]
            found += [Example(text.format(word), kind) for word in half for text in questions]
        random.Random(f"words {seed}").shuffle(found)
        return found

    return examples


def _sums(*, test: bool) -> Callable[[int], list[Example]]:
    """Examples of sums of two numbers from 11 to 99: tens, ones, and the sum of both."""

    def examples(seed: int) -> list[Example]:
        pairs = [(a, b) for a in range(11, 100) for b in range(11, 100)]
        random.Random("sums").shuffle(pairs)
        kept = len(pairs) // TEST_SHARE
        half = pairs[:kept] if test else pairs[kept:]
        random.Random(f"sums {seed}").shuffle(half)
        return [Example(f"What is {a} + {b}?", _worked_sum(a, b)) for a, b in half]

    return examples


def _worked_sum(a: int, b: int) -> str:
    tens, ones = a // 10 * 10 + b // 10 * 10, a % 10 + b % 10
    return f"{a // 10 * 10}+{b // 10 * 10}={tens}, {a % 10}+{b % 10}={ones}, {tens + ones}"


def _table(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


SUBJECTS = (
    Subject(
        "countries",
        training=_countries(
            ("Name the capital of {}.", "capital"),
            ("{}: which city is the capital?", "capital"),
            ("Name the continent of {}.", "continent"),
            ("{}: which continent is it in?", "continent"),
        ),
        test=_countries(("What is the capital of {}?", "capital"), ("Which continent is {} part of?", "continent")),
        pattern=r"[A-Z][A-Za-z \-]*",
        max_tokens=8,
    ),
    Subject(
        "words",
        training=_words('What kind of word is "{}"?', test=False),
        test=_words('What kind of word is "{}"?', test=True),
        choices=KINDS,
    ),
    Subject("sums", training=_sums(test=False), test=_sums(test=True), pattern=r"\d+", max_tokens=28),
)
