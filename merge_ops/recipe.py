"""What a merge recipe is: frozen data with mergekit's meaning. Opens no paths and knows no tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

Number = float | bool
SCHEMA_VERSION = 1
AUTO_TEMPLATE = "auto"  # the chat template that most of the models have
TOKENIZER_WORDS = ("base", "union")  # tokenizer sources that are no model references


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
class Module:
    """What is merged into one part of a model of several; exactly one of `models` and `slices` is filled."""

    models: tuple[Source, ...] = ()
    slices: tuple[Slice, ...] = ()
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A merge: a method, its sources, their parameters. Exactly one of `models`, `slices` and `modules` is filled.

    `modules` are the parts that are merged, by mergekit's names for them; the other parts are the donor's.

    `seed` drives the random masks. `intermediates` are merges that this one or a later one of them uses as models, by
    name; they are merged in memory, tensor by tensor. `facts` is the rest of the `mergesmith:` block (digests, scores,
    versions): it says where the recipe came from and takes no part in equality or in the digest.
    """

    merge_method: str
    models: tuple[Source, ...] = ()
    slices: tuple[Slice, ...] = ()
    base_model: str | None = None
    parameters: Parameters = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    chat_template: str | None = None
    seed: int = 0
    modules: tuple[tuple[str, Module], ...] = ()
    intermediates: tuple[tuple[str, Recipe], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def references(self) -> tuple[str, ...]:
        """Every model that the recipe names, once each, the base model first; intermediates count by their models."""
        named = [name for name, _ in self.intermediates]
        inner = (reference for _, part in self.intermediates for reference in part._all_references())
        return tuple(dict.fromkeys(ref for ref in (*self._all_references(), *inner) if ref not in named))

    def _all_references(self) -> Iterator[str]:
        if self.base_model is not None:
            yield self.base_model
        for block in (self, *(module for _, module in self.modules)):
            for part in block.slices:
                if part.base_model is not None:
                    yield part.base_model
                yield from (source.model for source in part.sources)
            yield from (source.model for source in block.models)
        if self.tokenizer_source is not None and self.tokenizer_source not in TOKENIZER_WORDS:
            yield self.tokenizer_source

    @property
    def donor(self) -> str:
        """The model whose configuration and other files the output takes over: the base model, else the first one."""
        blocks = (self, *(module for _, module in self.modules))
        sources = (s for block in blocks for part in (Slice(block.models), *block.slices) for s in part.sources)
        return self.base_model or next(sources).model

    def renamed(self, names: Mapping[str, str]) -> Recipe:
        """The same recipe with model references replaced (those not in `names` stay)."""

        def name(reference: str) -> str:
            return names.get(reference, reference)

        def sources(old: tuple[Source, ...]) -> tuple[Source, ...]:
            return tuple(replace(source, model=name(source.model)) for source in old)

        def slices(old: tuple[Slice, ...]) -> tuple[Slice, ...]:
            return tuple(
                replace(s, sources=sources(s.sources), base_model=s.base_model and name(s.base_model)) for s in old
            )

        def module(old: Module) -> Module:
            return replace(old, models=sources(old.models), slices=slices(old.slices))

        source = self.tokenizer_source
        return replace(
            self,
            models=sources(self.models),
            slices=slices(self.slices),
            modules=tuple((part, module(old)) for part, old in self.modules),
            base_model=self.base_model and name(self.base_model),
            tokenizer_source=source if source is None or source in TOKENIZER_WORDS else name(source),
            intermediates=tuple((inner, part.renamed(names)) for inner, part in self.intermediates),
        )

    def seeded(self, seed: int) -> Recipe:
        """The same recipe with another seed, that of its intermediates too."""
        inner = tuple((name, part.seeded(seed)) for name, part in self.intermediates)
        return replace(self, seed=seed, intermediates=inner)

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the recipe without `facts`: equal on every machine for equal recipes."""
        document = {**self._document(), "seed": self.seed}
        if self.intermediates:
            document["intermediates"] = [[name, part.digest] for name, part in self.intermediates]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The recipe as YAML that mergekit reads too; seed and facts stand under `mergesmith:`, which it ignores.

        Intermediates are documents of their own before it, as mergekit-multi reads them.
        """
        documents = [*self._named_documents(), replace(self, intermediates=()).to_document()]
        style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 120}
        return "---\n".join(yaml.dump(document, Dumper=_Dumper, **style) for document in documents)

    def to_document(self) -> dict[str, Any]:
        """The recipe as plain mappings and lists, in the form of its YAML; intermediates stand under `mergesmith:`."""
        block = {"schema_version": SCHEMA_VERSION, "seed": self.seed, **self.facts}
        if self.intermediates:
            block["intermediates"] = self._named_documents()
        return {**self._document(), "mergesmith": block}

    def _named_documents(self) -> list[dict[str, Any]]:
        return [{"name": name, **part.to_document()} for name, part in self.intermediates]

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"merge_method": self.merge_method}
        if self.base_model is not None:
            document["base_model"] = self.base_model
        document.update(_inputs_document(self))
        if self.modules:
            document["modules"] = {part: _inputs_document(module) for part, module in self.modules}
        for key in ("dtype", "out_dtype", "tokenizer_source", "chat_template"):
            if getattr(self, key) is not None:
                document[key] = getattr(self, key)
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


def _inputs_document(block: Recipe | Module) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if block.models:
        document["models"] = [_source_document(source) for source in block.models]
    if block.slices:
        document["slices"] = [_slice_document(part) for part in block.slices]
    if block.parameters:
        document["parameters"] = _parameters_document(block.parameters)
    return document


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
