"""The `tokenizer:` section of a recipe: forms, faults with their places, the way back to YAML."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mergesmith.errors import UserError
from mergesmith.merge_ops import TokenizerSection, TokenRule, parse_recipe

HEAD = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
FULL = """
tokenizer:
  source: base
  tokens:
    z: {source: b}
    <|im_start|>: {source: {kind: model_token, model: c, token: "<s>"}}
    "7": {source: {kind: model_token, model: c, token_id: 7}, force: true}
    new: {source: {kind: zero}}
  pad_to_multiple_of: 64
"""


def test_every_form() -> None:
    section = parse_recipe(HEAD + FULL).tokenizer
    assert section == TokenizerSection(
        "base",
        (
            TokenRule("z", "b"),
            TokenRule("<|im_start|>", "c", source_token="<s>"),
            TokenRule("7", "c", token_id=7, force=True),
            TokenRule("new", None),
        ),
        64,
    )


@pytest.mark.parametrize("text", [FULL, "tokenizer: {}", "tokenizer: {source: a}", "tokenizer_source: union"])
def test_round_trip(text: str) -> None:
    recipe = parse_recipe(HEAD + text)
    again = parse_recipe(recipe.to_yaml())
    assert again == recipe
    assert again.digest == recipe.digest


def test_digests() -> None:
    recipe = parse_recipe(HEAD + FULL)
    section = recipe.tokenizer
    assert section is not None
    others = (
        None,
        replace(section, rules=section.rules[::-1]),  # the ids of added tokens follow this order
        replace(section, pad_to_multiple_of=None),
        replace(section, source="union"),
    )
    assert len({recipe.digest, *(replace(recipe, tokenizer=other).digest for other in others)}) == 5


def test_references() -> None:
    recipe = parse_recipe(HEAD + FULL)
    assert recipe.references() == ("a", "b", "c")
    renamed = recipe.renamed({"b": "B", "c": "C", "base": "x"})
    assert renamed.references() == ("a", "B", "C")
    assert renamed.tokenizer is not None
    assert renamed.tokenizer.source == "base"
    assert parse_recipe(HEAD + "tokenizer: {source: d}").references() == ("a", "b", "d")


FAULTS = {
    "both": ("tokenizer_source: base\ntokenizer: {source: base}", "tokenizer: and tokenizer_source exclude each other"),
    "kind": (
        "tokenizer: union",
        "tokenizer: must be a mapping with source, tokens, pad_to_multiple_of, but is 'union'",
    ),
    "key": ("tokenizer: {sauce: base}", "tokenizer.sauce: unknown key 'sauce'. Did you mean 'source'?"),
    "source": ("tokenizer: {source: 3}", "tokenizer.source: must be text"),
    "multiple": ("tokenizer: {pad_to_multiple_of: 0}", "tokenizer.pad_to_multiple_of: must be a whole number of at"),
    "tokens": ("tokenizer: {tokens: [a]}", "tokenizer.tokens: must be a mapping from tokens to their rules"),
    "token": ("tokenizer: {tokens: {7: {source: a}}}", "tokenizer.tokens.7: a token must be text (in YAML: in quotes)"),
    "no source": (
        "tokenizer: {tokens: {x: {force: true}}}",
        "tokenizer.tokens.x.source: is missing; it is a model, or",
    ),
    "force": ("tokenizer: {tokens: {x: {source: a, force: 1}}}", "tokenizer.tokens.x.force: must be true or false"),
    "row kind": (
        "tokenizer: {tokens: {x: {source: {kind: zeros}}}}",
        "tokens.x.source.kind: unknown kind 'zeros'. Did",
    ),
    "zero": (
        "tokenizer: {tokens: {x: {source: {kind: zero, model: a}}}}",
        "tokens.x.source.model: unknown key 'model'",
    ),
    "no model": ("tokenizer: {tokens: {x: {source: {kind: model_token, token: y}}}}", "x.source.model: is missing"),
    "neither": (
        "tokenizer: {tokens: {x: {source: {kind: model_token, model: a}}}}",
        "tokenizer.tokens.x.source: exactly one of the keys token and token_id must be given",
    ),
    "id": (
        "tokenizer: {tokens: {x: {source: {kind: model_token, model: a, token_id: -1}}}}",
        "tokenizer.tokens.x.source.token_id: must be a whole number of at least 0, but is -1",
    ),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS)
def test_faults(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_recipe(HEAD + text)
    assert message in str(caught.value)


def test_faults_are_told_together() -> None:
    with pytest.raises(UserError, match="3 faults"):
        parse_recipe(HEAD + "tokenizer: {sauce: 1, pad_to_multiple_of: -1, tokens: {x: 3}}")
