"""Facts about a suite that explain suspicious scores: chance levels, limits of answers, and the tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LeafFacts:
    """Facts about one lm-eval task.

    Attributes:
        filter: the filter that extracts its answers.
        chance: the expected accuracy of random answers; None unless the task is multiple choice scored by accuracy.
        limit: the most tokens of a generated answer; None if the task generates nothing.
        stops: the strings that end a generated answer.
        missing_bos: the tokenizer's BOS token if its prompts do not begin with it; else empty.
    """

    filter: str = "none"
    chance: float | None = None
    limit: int | None = None
    stops: tuple[str, ...] = ()
    missing_bos: str = ""


@dataclass(frozen=True)
class TokenizerDifference:
    """Texts that transformers' tokenizer encodes differently from the tokenizer.json that it was loaded from.

    Attributes:
        texts: how many texts were compared.
        differing: how many of them have different ids.
        example: the first such text, from the first differing token on, shortened.
        by_file: the ids of the example by tokenizer.json.
        by_transformers: the ids of the example by the loaded tokenizer.
    """

    texts: int
    differing: int
    example: str
    by_file: tuple[int, ...]
    by_transformers: tuple[int, ...]


@dataclass(frozen=True)
class SuiteFacts:
    """Facts about a suite.

    Attributes:
        leaves: lm-eval task -> its facts.
        has_template: whether the tokenizer has a chat template.
        applies_template: whether prompts are formatted by it.
        difference: set if transformers loads the tokenizer differently from its file.
    """

    leaves: Mapping[str, LeafFacts]
    has_template: bool = False
    applies_template: bool = False
    difference: TokenizerDifference | None = None
