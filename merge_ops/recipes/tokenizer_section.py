"""The `tokenizer:` section of a recipe: source of the vocabulary, rules for single tokens, padding. Opens no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mergesmith.errors import unknown

from .hints import without_old_prefix

UNION, BASE = "union", "base"
TOKENIZER_WORDS = (BASE, UNION)  # tokenizer sources that are not model references
KEYS = ("source", "tokens", "pad_to_multiple_of")
RULE_KEYS = ("source", "force")
MODEL_TOKEN, ZERO = "model_token", "zero"
ROW_KEYS = {MODEL_TOKEN: ("kind", "model", "token", "token_id"), ZERO: ("kind",)}

Report = Callable[[str, str], None]  # (place, message)


@dataclass(frozen=True)
class TokenRule:
    """The origin of the row of one output token in models that lack it, or in all models with `force`.

    `model` None means a row of zeros. `source_token` or `token_id` select the row of another token of `model`.
    """

    token: str
    model: str | None
    source_token: str | None = None
    token_id: int | None = None
    force: bool = False


@dataclass(frozen=True)
class TokenizerSection:
    """The output's vocabulary: `union`, `base` or a model reference, rules for tokens, and padding of the rows."""

    source: str = UNION
    rules: tuple[TokenRule, ...] = ()
    pad_to_multiple_of: int | None = None

    @property
    def source_model(self) -> str | None:
        """The model whose tokenizer is used, or None if the source is `union` or `base`."""
        return None if self.source in TOKENIZER_WORDS else self.source

    def references(self) -> Iterator[str]:
        """Yield every model that the section names."""
        if self.source_model is not None:
            yield self.source_model
        yield from (rule.model for rule in self.rules if rule.model is not None)

    def renamed(self, name: Callable[[str], str]) -> TokenizerSection:
        """Return the section with model references replaced."""
        rules = tuple(replace(rule, model=rule.model and name(rule.model)) for rule in self.rules)
        return replace(self, source=name(self.source) if self.source_model else self.source, rules=rules)

    def document(self) -> dict[str, Any]:
        """Return the section in its YAML form."""
        document: dict[str, Any] = {"source": self.source}
        if self.rules:
            document["tokens"] = {rule.token: _rule_document(rule) for rule in self.rules}
        if self.pad_to_multiple_of is not None:
            document["pad_to_multiple_of"] = self.pad_to_multiple_of
        return document


def _rule_document(rule: TokenRule) -> dict[str, Any]:
    source: Any = rule.model
    if rule.model is None:
        source = {"kind": ZERO}
    elif rule.source_token is not None:
        source = {"kind": MODEL_TOKEN, "model": rule.model, "token": rule.source_token}
    elif rule.token_id is not None:
        source = {"kind": MODEL_TOKEN, "model": rule.model, "token_id": rule.token_id}
    return {"source": source, **({"force": True} if rule.force else {})}


class SectionReader:
    """Reads the `tokenizer:` section and reports every fault with the path of its key."""

    def __init__(self, add: Report, unknown_key: Report, reference: Callable[[Any, str], str | None]) -> None:
        """Report faults to `add` and unknown keys to `unknown_key`; `reference` reads a model reference at a place."""
        self.add, self.unknown_key, self.reference = add, unknown_key, reference

    def of_recipe(self, document: Mapping[str, Any]) -> TokenizerSection | None:
        """Return the section of a recipe's document, or None if it has none."""
        if document.get("tokenizer") is None:
            return None
        if document.get("tokenizer_source") is not None:
            self.add("tokenizer", "and tokenizer_source exclude each other; move the latter to tokenizer.source")
        return self.read(document["tokenizer"])

    def read(self, value: object, place: str = "tokenizer") -> TokenizerSection | None:
        """Return the section, or None if it cannot be read."""
        if not isinstance(value, dict):
            self.add(place, f"must be a mapping with {', '.join(KEYS)}, but is {value!r}")
            return None
        self._keys(value, KEYS, place)
        source = self.reference(value.get("source"), f"{place}.source")
        multiple = value.get("pad_to_multiple_of")
        if multiple is not None and (type(multiple) is not int or multiple < 1):
            self.add(f"{place}.pad_to_multiple_of", f"must be a whole number of at least 1, but is {multiple!r}")
            multiple = None
        tokens = value.get("tokens") or {}
        if not isinstance(tokens, dict):
            self.add(f"{place}.tokens", f"must be a mapping from tokens to their rules, but is {tokens!r}")
            tokens = {}
        rules = (self._rule(token, rule, f"{place}.tokens.{token}") for token, rule in tokens.items())
        return TokenizerSection(
            without_old_prefix(source) or UNION, tuple(rule for rule in rules if rule is not None), multiple
        )

    def _rule(self, token: object, value: object, place: str) -> TokenRule | None:
        if not isinstance(token, str) or not token:
            self.add(place, f"a token must be text (in YAML: in quotes), but is {token!r}")
            return None
        if not isinstance(value, dict) or value.get("source") is None:
            self.add(f"{place}.source", "is missing; it is a model, or a mapping with the kind model_token or zero")
            return None
        self._keys(value, RULE_KEYS, place)
        force = value.get("force", False)
        if type(force) is not bool:
            self.add(f"{place}.force", f"must be true or false, but is {force!r}")
            force = False
        source = value["source"]
        if isinstance(source, dict) and "kind" in source:
            return self._row(token, source, f"{place}.source", force=force)
        model = self.reference(source, f"{place}.source")
        return None if model is None else TokenRule(token, model, force=force)

    def _row(self, token: str, source: dict[Any, Any], place: str, *, force: bool) -> TokenRule | None:
        kind = source["kind"]
        if kind not in ROW_KEYS:
            self.add(f"{place}.kind", unknown("kind", kind, ROW_KEYS))
            return None
        self._keys(source, ROW_KEYS[kind], place)
        if kind == ZERO:
            return TokenRule(token, None, force=force)
        model = None
        if source.get("model") is None:
            self.add(f"{place}.model", "is missing; it names the model that the row is taken from")
        else:
            model = self.reference(source["model"], f"{place}.model")
        text, number = source.get("token"), source.get("token_id")
        if (text is None) == (number is None):
            self.add(place, "exactly one of the keys token and token_id must be given")
        elif text is not None and not isinstance(text, str):
            self.add(f"{place}.token", f"must be text (in YAML: in quotes), but is {text!r}")
        elif number is not None and (type(number) is not int or number < 0):
            self.add(f"{place}.token_id", f"must be a whole number of at least 0, but is {number!r}")
        elif model is not None:
            return TokenRule(token, model, text, number, force)
        return None

    def _keys(self, value: Mapping[Any, Any], known: tuple[str, ...], place: str) -> None:
        for key in value:
            if key not in known:
                self.unknown_key(f"{place}.{key}", unknown("key", key, known))
