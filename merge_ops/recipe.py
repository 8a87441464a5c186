"""What a merge recipe is: frozen data with mergekit's meaning. Opens no paths and knows no tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from .methods import METHODS
from .tokenizer_section import TOKENIZER_WORDS, TokenizerSection

Number = float | bool
SCHEMA_VERSION = 1
NOT_MERGEKITS = "mergekit"  # the key under `mergesmith:` of the note that mergekit cannot run a recipe


@dataclass(frozen=True)
class Rule:
    """One value of a parameter, for the tensors whose name contains `filter` (None: for all).

    One value is a constant; several are a gradient, spread evenly over the depth of the slice.
    """

    values: tuple[Number, ...]
    filter: str | None = None

    def __post_init__(self) -> None:
        # Equal rules must be written alike: 1, 1.0 and numpy's 1.0 become one float, and -0.0 becomes 0.0.
        plain = tuple(v if isinstance(v, bool) else float(v) + 0.0 for v in self.values)
        object.__setattr__(self, "values", plain)

    def matches(self, tensor_name: str) -> bool:
        """Whether this rule applies to a tensor of that checkpoint name (plain substring, as in mergekit)."""
        return self.filter is None or self.filter in tensor_name

    def at(self, depth: float) -> Number:
        """The value at a relative depth in [0, 1], piecewise linear between the gradient's values."""
        if len(self.values) == 1:
            return self.values[0]
        position = depth * (len(self.values) - 1)
        left = int(position)
        right = min(len(self.values) - 1, left + 1)
        fraction = position - left
        return (1.0 - fraction) * self.values[left] + fraction * self.values[right]


@dataclass(frozen=True)
class Setting:
    """What a recipe says of one parameter at one level: rules, of which the first that matches counts."""

    rules: tuple[Rule, ...]

    @classmethod
    def constant(cls, value: Number) -> Setting:
        """The same value for every tensor."""
        return cls((Rule((value,)),))

    def at(self, tensor_name: str, depth: float) -> Number | None:
        """The value for a tensor, or None where no rule matches it."""
        return next((rule.at(depth) for rule in self.rules if rule.matches(tensor_name)), None)


Parameters = Mapping[str, Setting]


@dataclass(frozen=True)
class Source:
    """One input model of a slice: a model reference, the layers [start, stop) taken from it, its own parameters."""

    model: str
    layer_range: tuple[int, int] | None = None
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """A run of output layers: the sources that are merged into it, and parameters for these layers alone."""

    sources: tuple[Source, ...]
    base_model: str | None = None
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A merge: a method, its sources, their parameters. Exactly one of `models` and `slices` is filled.

    At most one of `tokenizer_source` and `tokenizer` is given; the first is the second's `source` alone.

    `seed` drives the random masks. `facts` is the rest of the `mergesmith:` block (digests, scores, versions): it
    says where the recipe came from and takes no part in equality or in the digest.
    """

    merge_method: str
    models: tuple[Source, ...] = ()
    slices: tuple[Slice, ...] = ()
    base_model: str | None = None
    parameters: Parameters = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    tokenizer: TokenizerSection | None = None
    chat_template: str | None = None
    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def vocabulary(self) -> TokenizerSection | None:
        """What the recipe says of the output's vocabulary; None where it leaves it to the sources, which must agree."""
        return TokenizerSection(self.tokenizer_source) if self.tokenizer_source is not None else self.tokenizer

    def references(self) -> tuple[str, ...]:
        """Every model that the recipe names, once each, the base model first."""
        return tuple(dict.fromkeys(self._all_references()))

    def _all_references(self) -> Iterator[str]:
        if self.base_model is not None:
            yield self.base_model
        for part in self.slices:
            if part.base_model is not None:
                yield part.base_model
            yield from (source.model for source in part.sources)
        yield from (source.model for source in self.models)
        if self.vocabulary is not None:
            yield from self.vocabulary.references()

    def renamed(self, names: Mapping[str, str]) -> Recipe:
        """The same recipe with model references replaced (those not in `names` stay)."""

        def name(reference: str) -> str:
            return names.get(reference, reference)

        def sources(old: tuple[Source, ...]) -> tuple[Source, ...]:
            return tuple(replace(source, model=name(source.model)) for source in old)

        source = self.tokenizer_source
        return replace(
            self,
            models=sources(self.models),
            slices=tuple(
                replace(s, sources=sources(s.sources), base_model=s.base_model and name(s.base_model))
                for s in self.slices
            ),
            base_model=self.base_model and name(self.base_model),
            tokenizer_source=source if source is None or source in TOKENIZER_WORDS else name(source),
            tokenizer=self.tokenizer and self.tokenizer.renamed(name),
        )

    @property
    def beyond_mergekit(self) -> str | None:
        """Why mergekit cannot run this recipe, or None where it can."""
        method = METHODS.get(self.merge_method)
        if method is not None and not method.mergekit:
            return f"{method.name} is no method of mergekit's"
        extra = {p.name for p in method.parameters if not p.mergekit} if method else set()
        levels = [self.parameters, *(part.parameters for part in self.slices)]
        for name in sorted(extra):
            settings = [level[name] for level in levels if name in level]
            if any(value for setting in settings for rule in setting.rules for value in rule.values):
                return f"mergekit has no parameter {name} and would silently leave it out"
        return None

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the recipe without `facts`: equal on every machine for equal recipes."""
        document = {**self._document(), "seed": self.seed}
        if self.tokenizer is not None:
            # Tokens that rules add get their ids in this order, which sorted keys would not show.
            document["token_order"] = [rule.token for rule in self.tokenizer.rules]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The recipe as YAML that mergekit reads too; seed and facts stand under `mergesmith:`, which it ignores."""
        return yaml.dump(self.to_document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

    def to_document(self) -> dict[str, Any]:
        """The recipe as plain mappings and lists, in the form of its YAML."""
        block = {"schema_version": SCHEMA_VERSION, "seed": self.seed, **self.facts}
        if self.beyond_mergekit:
            block[NOT_MERGEKITS] = (
                f"not for stock mergekit: {self.beyond_mergekit}. mergesmith merge runs this recipe; "
                "mergesmith export --as task-vector turns it into one that mergekit runs"
            )
        return {**self._document(), "mergesmith": block}

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"merge_method": self.merge_method}
        if self.base_model is not None:
            document["base_model"] = self.base_model
        if self.models:
            document["models"] = [_source_document(source) for source in self.models]
        if self.slices:
            document["slices"] = [_slice_document(part) for part in self.slices]
        if self.parameters:
            document["parameters"] = _parameters_document(self.parameters)
        for key in ("dtype", "out_dtype", "tokenizer_source", "chat_template"):
            if getattr(self, key) is not None:
                document[key] = getattr(self, key)
        if self.tokenizer is not None:
            document["tokenizer"] = self.tokenizer.document()
        return document


class _Dumper(yaml.SafeDumper):
    """Dumps floats so that reading them back gives the same bits, in YAML 1.1 too (which wants '1.0e-05')."""


def _dump_float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    if text in ("inf", "-inf", "nan"):
        text = text.replace("inf", ".inf").replace("nan", ".nan")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(float, _dump_float)


def _source_document(source: Source) -> dict[str, Any]:
    document: dict[str, Any] = {"model": source.model}
    if source.layer_range is not None:
        document["layer_range"] = list(source.layer_range)
    if source.parameters:
        document["parameters"] = _parameters_document(source.parameters)
    return document


def _slice_document(part: Slice) -> dict[str, Any]:
    document: dict[str, Any] = {"sources": [_source_document(source) for source in part.sources]}
    if part.base_model is not None:
        document["base_model"] = part.base_model
    if part.parameters:
        document["parameters"] = _parameters_document(part.parameters)
    return document


def _parameters_document(parameters: Parameters) -> dict[str, Any]:
    return {name: _setting_document(setting) for name, setting in sorted(parameters.items())}


def _setting_document(setting: Setting) -> object:
    def value(rule: Rule) -> object:
        return rule.values[0] if len(rule.values) == 1 else list(rule.values)

    if len(setting.rules) == 1 and setting.rules[0].filter is None:
        return value(setting.rules[0])
    return [
        {"value": value(rule)} if rule.filter is None else {"filter": rule.filter, "value": value(rule)}
        for rule in setting.rules
    ]
