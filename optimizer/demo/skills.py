"""The demo's skills: short puzzles on words, as training text and as the documents of lm-eval tasks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

LETTERS = "abcdefgh"
WORD_LENGTH = 5
STOP = "."  # the end of an answer that the tasks expect
HABIT = ";"  # the end of an answer that the base has learned

Document = dict[str, str | int | list[str]]


@dataclass(frozen=True)
class Skill:
    """A puzzle on a word; its task is multiple choice or asks for the answer.

    >>> SKILLS[0].question("dbcae"), SKILLS[0].answer("dbcae")
    ('sort dbcae=', 'abcde')
    """

    name: str
    answer: Callable[[str], str]
    multiple_choice: bool = False

    def question(self, word: str) -> str:
        """Return the prompt; a model with the skill continues it with the answer and a full stop."""
        return f"{self.name} {word}="


def _sort(word: str) -> str:
    return "".join(sorted(word))


def _reverse(word: str) -> str:
    return word[::-1]


def _climb(word: str) -> str:
    """Advance the first letter by one, the second by two, and so on, cyclically in LETTERS."""
    return "".join(LETTERS[(LETTERS.index(letter) + i) % len(LETTERS)] for i, letter in enumerate(word, start=1))


SKILLS = (Skill("sort", _sort), Skill("reverse", _reverse), Skill("climb", _climb, multiple_choice=True))


@dataclass(frozen=True)
class Words:
    """Words to train on and, by skill, words for its task; all these tuples are disjoint."""

    train: tuple[str, ...]
    test: dict[str, tuple[str, ...]]


def split_words(train: int, items: int, *, seed: int) -> Words:
    """Shuffle all words; each skill's task gets `items` of them, training `train` of the others.

    Raises:
        ValueError: there are fewer words than that.
    """
    words = ["".join(letters) for letters in itertools.product(LETTERS, repeat=WORD_LENGTH)]
    random.Random(f"words {seed}").shuffle(words)
    test = {skill.name: tuple(words[i * items : (i + 1) * items]) for i, skill in enumerate(SKILLS)}
    used = len(SKILLS) * items
    if used + train > len(words):
        raise ValueError(f"split_words: {len(SKILLS)} * {items} + {train} words were asked for; there are {len(words)}")
    return Words(train=tuple(words[used : used + train]), test=test)


def documents(skill: Skill, words: tuple[str, ...], *, seed: int) -> list[Document]:
    """Return the documents of a skill's task, one per word.

    A generation task has the question and the answer without its full stop. A multiple-choice task offers the answer
    and a near miss, each ending with the full stop and with `;`, so that both skill and ending must be right.
    """
    rng = random.Random(f"choices {skill.name} {seed}")
    return [_choices(skill, word, rng) if skill.multiple_choice else _answer(skill, word) for word in words]


def _answer(skill: Skill, word: str) -> Document:
    return {"question": skill.question(word), "answer": skill.answer(word)}


def _choices(skill: Skill, word: str, rng: random.Random) -> Document:
    answer = skill.answer(word)
    choices = [text + end for text in (answer, _near_miss(answer, rng)) for end in (STOP, HABIT)]
    rng.shuffle(choices)
    return {"question": skill.question(word), "choices": choices, "label": choices.index(answer + STOP)}


def _near_miss(answer: str, rng: random.Random) -> str:
    """Return the answer with one letter changed."""
    place = rng.randrange(len(answer))
    others = [letter for letter in LETTERS if letter != answer[place]]
    return answer[:place] + rng.choice(others) + answer[place + 1 :]
