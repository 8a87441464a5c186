"""The skills that the problems are made of: a question about a short word, the answer, and wrong answers."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

LETTERS = "abcdefghij"
STOP = "."
Kind = Literal["generate", "choice", "text"]
TEST_SHARE = 4  # one word in four is kept for the tasks


@dataclass(frozen=True)
class Example:
    """A question, its answer without the full stop, and wrong answers for a multiple choice."""

    question: str
    answer: str
    wrong: tuple[str, str]


@dataclass(frozen=True)
class Skill:
    """One thing to do with a word.

    Attributes:
        name: a key of `ANSWERS`.
        tag: what its questions begin with; two skills with the same tag cannot both be answered.
        kind: whether its task asks for the answer, offers three choices, or measures the perplexity of question and
            answer; the question of such a text does not hold the word.
        length: letters of a word.
        letters: how many different letters there are.
    """

    name: str
    tag: str
    kind: Kind = "generate"
    length: int = 4
    letters: int = 10

    def example(self, word: str, rng: random.Random) -> Example:
        """The example of a word; `rng` draws the wrong answers, and the answers that follow no rule."""
        answer = ANSWERS[self.name](word, rng)
        question = f"{self.tag}=" if self.kind == "text" else f"{self.tag}{word}="
        return Example(question, answer, _wrong(answer, LETTERS[: self.letters], rng))

    def words(self, count: int, *, test: bool, seed: int) -> list[str]:
        """`count` words for training (with repetitions) or for the task (distinct); no word is in both.

        Raises:
            ValueError: there are fewer distinct words.
        """
        rng = random.Random(f"{self.name} {test} {seed}")
        found: dict[str, None] = {}
        drawn: list[str] = []
        for _ in range(100 * count):
            word = "".join(rng.choices(LETTERS[: self.letters], k=self.length))
            if (zlib.crc32(word.encode()) % TEST_SHARE == 0) is not test or (test and word in found):
                continue
            found[word] = None
            drawn.append(word)
            if len(drawn) == count:
                return drawn
        raise ValueError(f"{self.name}: there are only {len(found)} words, {count} were asked for")


def _shift(word: str, by: int) -> str:
    return "".join(LETTERS[(LETTERS.index(letter) + by) % len(LETTERS)] for letter in word)


def _swap(word: str) -> str:
    return "".join(word[i : i + 2][::-1] for i in range(0, len(word), 2))


def _running(word: str) -> str:
    """Each letter is the largest so far."""
    return "".join(max(word[: i + 1]) for i in range(len(word)))


def _walk(word: str) -> str:
    """A text in which each letter has three possible successors; the word chooses among them."""
    text, at = "", 0
    for letter in word:
        at = (3 * at + 1 + 2 * (LETTERS.index(letter) % 3)) % len(LETTERS)
        text += LETTERS[at]
    return text


def _random_word(word: str, rng: random.Random) -> str:
    return "".join(rng.choices(LETTERS, k=len(word)))


ANSWERS: dict[str, Callable[[str, random.Random], str]] = {
    "reverse": lambda word, rng: word[::-1],
    "sort": lambda word, rng: "".join(sorted(word)),
    "descend": lambda word, rng: "".join(sorted(word, reverse=True)),
    "next": lambda word, rng: _shift(word, 1),
    "back": lambda word, rng: _shift(word, -1),
    "swap": lambda word, rng: _swap(word),
    "rotate": lambda word, rng: word[1:] + word[0],
    "unique": lambda word, rng: "".join(dict.fromkeys(word)),
    "running": lambda word, rng: _running(word),
    "mirror": lambda word, rng: "".join(LETTERS[-1 - LETTERS.index(letter)] for letter in word),
    "walk": lambda word, rng: _walk(word),
    "chance": _random_word,  # no rule: whatever is answered is right by chance
}


def _wrong(answer: str, letters: str, rng: random.Random) -> tuple[str, str]:
    """Two answers that differ from the right one, and from each other, in one letter each."""
    found: list[str] = []
    while len(found) < 2:
        place = rng.randrange(len(answer))
        other = answer[:place] + rng.choice(letters) + answer[place + 1 :]
        if other not in (answer, *found):
            found.append(other)
    return found[0], found[1]
