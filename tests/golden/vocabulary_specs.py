"""The whole-recipe cases on models whose vocabularies differ: four tiny models that share some of their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipe_specs import RecipeSpec

SMALL: Mapping[str, Any] = {"layers": 1, "hidden": 16, "intermediate_size": 24}
# `b` has padding: more rows than tokens. `base` lacks y, which a and b have; x and m have one model each.
OWN: Mapping[str, Mapping[str, Any]] = {
    "base": {**SMALL, "vocab": 12, "tokens": "abcdefgh"},
    "a": {**SMALL, "vocab": 16, "tokens": "hgfedcbaxy", "added": ["<|im_start|>", "<|im_end|>"]},
    "b": {**SMALL, "vocab": 24, "tokens": "acegymn", "added": ["<|im_end|>"]},
    "c": {**SMALL, "vocab": 15, "tokens": "abcdz0", "added": ["<|tool|>", "<|im_end|>", "<|end|>"]},
}

ALL = ("base", "a", "b", "c")
VOCABULARY_RECIPES = (
    RecipeSpec(
        "vocabulary_union", "missing rows: the base's, the only model's, averages", own=OWN, refs=ALL, origin="base"
    ),
    RecipeSpec("vocabulary_union_no_base", "averages where two have a token", own=OWN, refs=("a", "b", "c")),
    RecipeSpec("vocabulary_base", "the base's tokens only", own=OWN, refs=ALL, origin="base"),
    RecipeSpec(
        "vocabulary_model",
        "another model's tokens; some are in no model and become zeros",
        own=OWN,
        refs=ALL,
        origin="c",
    ),
    RecipeSpec(
        "vocabulary_rules",
        "every kind of rule, forced or not, and a token that a rule adds",
        own=OWN,
        refs=ALL,
        origin="base",
    ),
    RecipeSpec(
        "vocabulary_padded",
        "rows up to a multiple are the mean (its last bits depend on the ids, so no union)",
        own=OWN,
        refs=("base", "a", "b"),
        origin="a",
    ),
    RecipeSpec("vocabulary_padding_dropped", "a padded model alone, its own tokens", own=OWN, refs=("b",), origin="b"),
    RecipeSpec("vocabulary_tied", "tied embeddings", family="qwen2", own=OWN, refs=("base", "a", "b"), origin="base"),
)
