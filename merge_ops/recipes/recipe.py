"""The record of a merge recipe, with mergekit's semantics. Opens no files."""

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
MERGEKIT_NOTE = "mergekit"  # key under `mergesmith:` of a note that mergekit cannot run the recipe


@dataclass(frozen=True)
class Recipe:
    """A merge: a method, its sources and parameters. Exactly one of `models`, `slices` and `modules` is non-empty.

    Attributes:
        merge_method: name of the method.
        models: sources that are merged over all their layers.
        slices: runs of output layers with their sources.
        base_model: reference of the base model.
        parameters: settings that apply to all tensors and inputs, unless a lower level overrides them.
        dtype: dtype that inputs are cast to.
        out_dtype: dtype of the output.
        tokenizer_source: short form of a `tokenizer` section that has only a `source`; at most one of both is given.
        tokenizer: the section about the output's vocabulary.
        chat_template: `auto`, a name, or the text of a Jinja template.
        seed: seed of random masks.
        modules: the parts of a multi-part model that are merged, by mergekit's names; other parts are the donor's.
        intermediates: merges that this one, or a later intermediate, uses as models, by name. They are merged in
            memory, one tensor at a time.
        facts: the rest of the `mergesmith:` block (digests, scores, versions), which records where the recipe comes
            from. It is not part of equality or of the digest.
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
        """The section about the output's vocabulary, or None if it is that of the sources, which must agree."""
        return TokenizerSection(self.tokenizer_source) if self.tokenizer_source is not None else self.tokenizer

    def references(self) -> tuple[str, ...]:
        """Return every model that the recipe names, once, base model first; for intermediates, their models."""
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
        """Return the blocks that have models or slices: the recipe itself and its modules."""
        return (self, *(module for _, module in self.modules))

    @property
    def donor(self) -> str:
        """The model whose configuration and other files the output takes over: the base model, else the first."""
        sources = (s for block in self._blocks() for part in (Slice(block.models), *block.slices) for s in part.sources)
        return self.base_model or next(sources).model

    def renamed(self, names: Mapping[str, str]) -> Recipe:
        """Return the recipe with model references replaced, also in its facts; those not in `names` are kept."""

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

        source, facts = self.tokenizer_source, dict(self.facts)
        if "sources" in facts:
            facts["sources"] = {name(reference): digests for reference, digests in facts["sources"].items()}
        return replace(
            self,
            models=sources(self.models),
            slices=slices(self.slices),
            modules=tuple((part, module(old)) for part, old in self.modules),
            base_model=self.base_model and name(self.base_model),
            tokenizer_source=source if source is None or source in TOKENIZER_WORDS else name(source),
            tokenizer=self.tokenizer and self.tokenizer.renamed(name),
            facts=facts,
            intermediates=tuple((inner, part.renamed(names)) for inner, part in self.intermediates),
        )

    def seeded(self, seed: int) -> Recipe:
        """Return the recipe with another seed, also in its intermediates."""
        inner = tuple((name, part.seeded(seed)) for name, part in self.intermediates)
        return replace(self, seed=seed, intermediates=inner)

    @property
    def beyond_mergekit(self) -> str | None:
        """The reason why mergekit cannot run this recipe, or None if it can. Intermediates are not considered."""
        method = METHODS.get(self.merge_method)
        if method is not None and not method.mergekit:
            return f"{method.name} is not a method of mergekit"
        extra = {p.name for p in method.parameters if not p.mergekit} if method else set()
        blocks = self._blocks()
        levels = [level.parameters for block in blocks for level in (block, *block.slices)]
        for name in sorted(extra):
            settings = [level[name] for level in levels if name in level]
            if any(value for setting in settings for rule in setting.rules for value in rule.values):
                return f"mergekit has no parameter {name} and would silently ignore it"
        return None

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the recipe without `facts`: equal on every machine for equal recipes."""
        document = {**self._document(), "seed": self.seed}
        if self.tokenizer is not None:
            # Tokens added by rules get their ids in this order, which sorted keys would lose.
            document["token_order"] = [rule.token for rule in self.tokenizer.rules]
        if self.intermediates:
            document["intermediates"] = [[name, part.digest] for name, part in self.intermediates]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """Return YAML that mergekit can read too; seed and facts are under `mergesmith:`, which it ignores.

        Intermediates are separate documents before the recipe, in the format of mergekit-multi.
        """
        documents = [*self._named_documents(), replace(self, intermediates=()).to_document()]
        style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 120}
        return "---\n".join(yaml.dump(document, Dumper=Dumper, **style) for document in documents)

    def to_document(self) -> dict[str, Any]:
        """Return the recipe in its YAML form as plain mappings and lists; intermediates are under `mergesmith:`."""
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
                part: inputs_document(module.models, module.slices, module.parameters) for part, module in self.modules
            }
        for key in ("dtype", "out_dtype", "tokenizer_source", "chat_template"):
            if getattr(self, key) is not None:
                document[key] = getattr(self, key)
        if self.tokenizer is not None:
            document["tokenizer"] = self.tokenizer.document()
        return document
