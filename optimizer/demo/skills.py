"""The demo's skills: short puzzles on words, as training text and as the documents of lm-eval tasks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

LETTERS = "abcdefgh"
STOP = "."


@dataclass(frozen=True)
class Skill:
    """One thing to learn: what to do with a word, and whether its task offers choices or asks for the answer.

    >>> SKILLS[0].question("dbcae"), SKILLS[0].answer("dbcae")
    ('sort dbcae=', 'abcde')
    """

    name: str
    answer: Callable[[str], str]
    multiple_choice: bool = False

    def question(self, word: str) -> str:
        """The prompt; a model that knows the skill goes on with the answer and a full stop."""
        return f"{self.name} {word}="


def _sorted(word: str) -> str:
    return "".join(sorted(word))


def _reversed(word: str) -> str:
    return word[::-1]


def _shifted(word: str) -> str:
    return "".join(LETTERS[(LETTERS.index(letter) + 3) % len(LETTERS)] for letter in word)


SKILLS = (Skill("sort", _sorted), Skill("reverse", _reversed), Skill("shift", _shifted, multiple_choice=True))


@dataclass(frozen=True)
class Words:
    """Words for training and, per skill, words for its task. No word is in two of these lists."""

    train: tuple[str, ...]
    test: dict[str, tuple[str, ...]]


def split_words(length: int, items: int, *, seed: int) -> Words:
    """Shuffle all words of this length; each skill's task gets `items` of them, training the rest."""
    words = ["".join(letters) for letters in itertools.product(LETTERS, repeat=length)]
    random.Random(f"words {seed}").shuffle(words)
    test = {skill.name: tuple(words[i * items : (i + 1) * items]) for i, skill in enumerate(SKILLS)}
    return Words(train=tuple(words[len(SKILLS) * items :]), test=test)


def documents(skill: Skill, words: tuple[str, ...], *, seed: int) -> list[dict[str, object]]:
    """The documents of a skill's task, one per word: question and answer, or question, choices and label."""
    rng = random.Random(f"choices {skill.name} {seed}")
    rows: list[dict[str, object]] = []
    for word in words:
        question, answer = skill.question(word), skill.answer(word)
        if not skill.multiple_choice:
            rows.append({"question": question, "answer": answer})
            continue
        wrong = _near_misses(answer, rng, count=1)[0]
        choices = [x + e for x in (answer, wrong) for e in '.;']
        rng.shuffle(choices)
        rows.append({"question": question, "choices": choices, "label": choices.index(answer+".")})
    return rows


def _near_misses(answer: str, rng: random.Random, *, count: int) -> list[str]:
    """Different words, each one letter away from the answer."""
    found: list[str] = []
    while len(found) < count:
        place, letter = rng.randrange(len(answer)), rng.choice(LETTERS)
        wrong = answer[:place] + letter + answer[place + 1 :]
        if wrong != answer and wrong not in found:
            found.append(wrong)
    return found
