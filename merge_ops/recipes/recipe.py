"""What a merge recipe is: frozen data with mergekit's meaning. Opens no paths and knows no tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from ..methods import METHODS
from .blocks import Module, Parameters, Slice, Source
from .document import Dumper, inputs_document
from .tokenizer_section import TOKENIZER_WORDS, TokenizerSection

SCHEMA_VERSION = 1
MERGEKIT_NOTE = "mergekit"  # the key under `mergesmith:` of the note that mergekit cannot run a recipe


@dataclass(frozen=True)
class Recipe:
    """A merge: a method, its sources, their parameters. Exactly one of `models`, `slices` and `modules` is filled.

    `modules` are the parts that are merged, by mergekit's names for them; the other parts are the donor's.

    At most one of `tokenizer_source` and `tokenizer` is given; the first is the second's `source` alone.

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
    tokenizer: TokenizerSection | None = None
    chat_template: str | None = None
    seed: int = 0
    modules: tuple[tuple[str, Module], ...] = ()
    intermediates: tuple[tuple[str, Recipe], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def vocabulary(self) -> TokenizerSection | None:
        """What the recipe says of the output's vocabulary; None where it leaves it to the sources, which must agree."""
        return TokenizerSection(self.tokenizer_source) if self.tokenizer_source is not None else self.tokenizer

    def references(self) -> tuple[str, ...]:
        """Every model that the recipe names, once each, the base model first; intermediates count by their models."""
        named = [name for name, _ in self.intermediates]
        inner = (reference for _, part in self.intermediates for reference in part._all_references())
        return tuple(dict.fromkeys(ref for ref in (*self._all_references(), *inner) if ref not in named))

    def _all_references(self) -> Iterator[str]:
        if self.base_model is not None:
            yield self.base_model
        for block in self._blocks():
            for part in block.slices:
                if part.base_model is not None:
                    yield part.base_model
                yield from (source.model for source in part.sources)
            yield from (source.model for source in block.models)
        if self.vocabulary is not None:
            yield from self.vocabulary.references()

    def _blocks(self) -> tuple[Recipe | Module, ...]:
        """What has models or slices: the recipe itself and its modules."""
        return (self, *(module for _, module in self.modules))

    @property
    def donor(self) -> str:
        """The model whose configuration and other files the output takes over: the base model, else the first one."""
        sources = (s for block in self._blocks() for part in (Slice(block.models), *block.slices) for s in part.sources)
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
            tokenizer=self.tokenizer and self.tokenizer.renamed(name),
            intermediates=tuple((inner, part.renamed(names)) for inner, part in self.intermediates),
        )

    def seeded(self, seed: int) -> Recipe:
        """The same recipe with another seed, that of its intermediates too."""
        inner = tuple((name, part.seeded(seed)) for name, part in self.intermediates)
        return replace(self, seed=seed, intermediates=inner)

    @property
    def beyond_mergekit(self) -> str | None:
        """Why mergekit cannot run this recipe, or None where it can; intermediates say it of themselves."""
        method = METHODS.get(self.merge_method)
        if method is not None and not method.mergekit:
            return f"{method.name} is no method of mergekit's"
        extra = {p.name for p in method.parameters if not p.mergekit} if method else set()
        blocks = self._blocks()
        levels = [level.parameters for block in blocks for level in (block, *block.slices)]
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
        if self.intermediates:
            document["intermediates"] = [[name, part.digest] for name, part in self.intermediates]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The recipe as YAML that mergekit reads too; seed and facts stand under `mergesmith:`, which it ignores.

        Intermediates are documents of their own before it, as mergekit-multi reads them.
        """
        documents = [*self._named_documents(), replace(self, intermediates=()).to_document()]
        style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 120}
        return "---\n".join(yaml.dump(document, Dumper=Dumper, **style) for document in documents)

    def to_document(self) -> dict[str, Any]:
        """The recipe as plain mappings and lists, in the form of its YAML; intermediates stand under `mergesmith:`."""
        block = {"schema_version": SCHEMA_VERSION, "seed": self.seed, **self.facts}
        if self.beyond_mergekit:
            block[MERGEKIT_NOTE] = (
                f"not for stock mergekit: {self.beyond_mergekit}. mergesmith merge runs this recipe; "
                "mergesmith export --as task-vector turns it into one that mergekit runs"
            )
        if self.intermediates:
            block["intermediates"] = self._named_documents()
        return {**self._document(), "mergesmith": block}

    def _named_documents(self) -> list[dict[str, Any]]:
        return [{"name": name, **part.to_document()} for name, part in self.intermediates]

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"merge_method": self.merge_method}
        if self.base_model is not None:
            document["base_model"] = self.base_model
        document.update(inputs_document(self.models, self.slices, self.parameters))
        if self.modules:
            document["modules"] = {
                part: inputs_document(own.models, own.slices, own.parameters) for part, own in self.modules
            }
        for key in ("dtype", "out_dtype", "tokenizer_source", "chat_template"):
            if getattr(self, key) is not None:
                document[key] = getattr(self, key)
        if self.tokenizer is not None:
            document["tokenizer"] = self.tokenizer.document()
        return document
