"""Reads mergekit's YAML into a `Recipe` with the same meaning, but reports mistakes that mergekit ignores.

All faults are collected with the path of their key. Keys that mergekit knows but that have no effect are warnings
(`RecipeWarning`), so that existing recipes load; with `lenient`, unknown keys are warnings too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mergesmith.errors import Faults, UserError, unknown

from ..methods import METHODS, MergeMethod
from .blocks import Module, Parameters, Slice, Source, with_defaults
from .chat_templates import template_fault
from .hints import TOP_KEYS, check_kind, unknown_key, without_old_prefix
from .input_counts import check_contract
from .multi_document import join_documents, load_documents
from .parameter_reader import ParameterReader
from .recipe import MERGEKIT_NOTE, Recipe
from .references import reference_text
from .slice_lengths import check_lengths
from .tokenizer_section import SectionReader

SLICE_KEYS = ("sources", "base_model", "parameters", "residual_weight")
SOURCE_KEYS = ("model", "layer_range", "parameters")
# What mergekit calls the only part of an ordinary model. It writes every recipe (mergekit_config.yml) with `modules`.
ONLY_PART = "default"
RECIPE_DTYPES = ("float16", "bfloat16", "float32", "float64")


class RecipeWarning(UserWarning):
    """Something in a recipe has no effect."""


def read_recipe(path: str | Path, *, lenient: bool = False) -> Recipe:
    """Return the recipe in a YAML file.

    Raises:
        UserError: the file cannot be read, or has faults, which are all listed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return parse_recipe(text, where=str(path), lenient=lenient)


def parse_recipe(text: str, *, where: str = "recipe", lenient: bool = False) -> Recipe:
    """Return the recipe in YAML text; `where` names it in messages.

    Raises:
        UserError: the text has faults, which are all listed.
    """
    documents = load_documents(text, where=where)
    if len(documents) > 1:
        return _joined(documents, where, lenient)
    return recipe_from_document(documents[0], where=where, lenient=lenient)


def recipe_from_document(document: object, *, where: str = "recipe", lenient: bool = False) -> Recipe:
    """Return the recipe in a parsed YAML document (mappings, lists, scalars).

    Raises:
        UserError: the document has faults, which are all listed.
    """
    if not isinstance(document, dict):
        raise UserError(f"{where}: a recipe is a mapping with the key merge_method, but this is {_kind(document)}")
    check_kind(document, where, wanted="recipe")
    block = document.get("mergesmith")
    if isinstance(block, dict) and isinstance(block.get("intermediates"), list):
        rest = {key: value for key, value in block.items() if key != "intermediates"}
        return _joined([*block["intermediates"], {**document, "mergesmith": rest}], where, lenient)
    faults = Faults(where)
    recipe = _Reader(faults, where, lenient).recipe(document)
    faults.raise_if_any()
    assert recipe is not None, "Should not reach."
    return recipe


def _joined(documents: list[Any], where: str, lenient: bool) -> Recipe:
    def read(document: object, place: str) -> Recipe:
        return recipe_from_document(document, where=place, lenient=lenient)

    recipe, unused = join_documents(documents, where, read)
    for name in unused:
        warnings.warn(
            f"{where}: '{name}' is not used by any other document and is ignored", RecipeWarning, stacklevel=3
        )
    return recipe


def _kind(value: object) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"


class _Reader:
    """Reads one document; every method returns what it could read and records faults."""

    def __init__(self, faults: Faults, where: str, lenient: bool) -> None:
        self.faults, self.where, self.lenient = faults, where, lenient

    def recipe(self, document: dict[str, Any]) -> Recipe | None:
        self.keys(document, TOP_KEYS, "")
        method = self.method(document.get("merge_method"))
        if sum(key in document for key in ("models", "slices", "modules")) != 1:
            self.faults.add("", "exactly one of the keys models, slices and modules must be given")
        rest = self.rest(document)
        if method is None:
            return None
        reader = ParameterReader(method, self.faults, self.warn, self.unknown)
        base = self.reference(document.get("base_model"), "base_model")
        parameters = reader.read(document.get("parameters"), "parameters")
        if "modules" not in document:
            inputs = self.inputs(document, "", method, reader, base, parameters)
            return Recipe(method.name, inputs.models, inputs.slices, base, parameters, **rest)
        modules = tuple(self.modules(document["modules"], method, reader, base, parameters))
        if [name for name, _ in modules] == [ONLY_PART]:
            ((_, only),) = modules
            settings = with_defaults(only.parameters, parameters)
            return Recipe(method.name, only.models, only.slices, base, settings, **rest)
        return Recipe(method.name, modules=modules, base_model=base, parameters=parameters, **rest)

    def inputs(
        self,
        document: dict[str, Any],
        place: str,
        method: MergeMethod,
        reader: ParameterReader,
        base: str | None,
        above: Parameters,
    ) -> Module:
        """Return the models or slices of a recipe or module; `above` are the parameters that apply there too."""
        dot = f"{place}." if place else ""
        models = tuple(
            self.source(entry, f"{dot}models[{i}]", reader, base, sliced=False)
            for i, entry in enumerate(self.entries(document, "models", place))
        )
        slices = tuple(
            self.slice(entry, f"{dot}slices[{i}]", reader, base)
            for i, entry in enumerate(self.entries(document, "slices", place))
        )
        check_contract(self.faults, method, Module(models, slices), base, dot)
        check_lengths(slices, dot, self.faults.add, self.warn)
        reader.check_required(models, slices, above, base)
        return Module(models, slices)

    def modules(
        self, value: object, method: MergeMethod, reader: ParameterReader, base: str | None, top: Parameters
    ) -> Iterator[tuple[str, Module]]:
        if not isinstance(value, dict) or not value:
            self.faults.add(
                "modules", f"must be a mapping from a part of the model to its models, but is {_kind(value or None)}"
            )
            return
        for name, entry in value.items():
            place = f"modules.{name}"
            if not self.is_mapping(entry, place):
                continue
            self.keys(entry, ("models", "slices", "parameters"), place)
            if ("models" in entry) == ("slices" in entry):
                self.faults.add(place, "exactly one of the keys models and slices must be given")
            settings = reader.read(entry.get("parameters"), f"{place}.parameters")
            inputs = self.inputs(entry, place, method, reader, base, {**top, **settings})
            yield str(name), Module(inputs.models, inputs.slices, settings)

    def rest(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the settings that do not depend on the method, as keyword arguments of `Recipe`."""
        block = self.block(document.get("mergesmith", {}))
        return {
            "dtype": self.dtype(document.get("dtype"), "dtype"),
            "out_dtype": self.dtype(document.get("out_dtype"), "out_dtype"),
            "tokenizer_source": without_old_prefix(
                self.reference(document.get("tokenizer_source"), "tokenizer_source")
            ),
            "tokenizer": SectionReader(self.faults.add, self.unknown, self.reference).of_recipe(document),
            "chat_template": self.template(document.get("chat_template")),
            "seed": block.pop("seed", 0),
            "facts": block,
        }

    def method(self, name: object) -> MergeMethod | None:
        if name is None:
            self.faults.add("merge_method", "is missing; it names the merge method")
        elif str(name) not in METHODS:
            self.faults.add("merge_method", unknown("merge method", name, METHODS))
        return METHODS.get(str(name))

    def slice(self, entry: Any, place: str, reader: ParameterReader, base: str | None) -> Slice:
        if not self.is_mapping(entry, place):
            return Slice(())
        self.keys(entry, SLICE_KEYS, place)
        if "residual_weight" in entry:
            self.warn(f"{place}.residual_weight", "has no effect")
        own_base = self.reference(entry.get("base_model"), f"{place}.base_model")
        sources = tuple(
            self.source(source, f"{place}.sources[{i}]", reader, own_base or base, sliced=True)
            for i, source in enumerate(self.entries(entry, "sources", place))
        )
        if not sources:
            self.faults.add(f"{place}.sources", "must list at least one source")
        lengths = {s.layer_range[1] - s.layer_range[0] for s in sources if s.layer_range}
        if len(lengths) > 1:
            self.faults.add(place, f"its sources must cover equally many layers, but cover {sorted(lengths)}")
        parameters = reader.read(entry.get("parameters"), f"{place}.parameters")
        return Slice(sources, own_base, parameters)

    def source(self, entry: Any, place: str, reader: ParameterReader, base: str | None, *, sliced: bool) -> Source:
        if not self.is_mapping(entry, place):
            return Source("")
        self.keys(entry, SOURCE_KEYS, place)
        model = self.reference(entry.get("model"), f"{place}.model")
        if entry.get("model") in (None, ""):
            self.faults.add(f"{place}.model", "is missing; it names a folder or hub id")
        layers = entry.get("layer_range")
        if layers is not None and not sliced:
            self.warn(f"{place}.layer_range", "has no effect under models; layer ranges belong under slices")
            layers = None
        parameters = reader.read_source(
            entry.get("parameters"), f"{place}.parameters", is_base=model is not None and model == base
        )
        return Source(model or "", self.layers(layers, f"{place}.layer_range") if sliced else None, parameters)

    def layers(self, value: object, place: str) -> tuple[int, int] | None:
        if value is None:
            self.faults.add(place, "is missing; a slice takes layers [start, stop)")
            return None
        if not (isinstance(value, list) and len(value) == 2 and all(type(v) is int for v in value)):
            self.faults.add(place, f"must be [start, stop), two whole numbers, but is {value!r}")
            return None
        if not 0 <= value[0] <= value[1]:
            self.faults.add(place, f"must satisfy 0 <= start <= stop, but is {value!r}")
        return value[0], value[1]

    def block(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.faults.add("mergesmith", f"must be a mapping, but is {_kind(value)}")
            return {}
        block = {key: entry for key, entry in value.items() if key not in ("schema_version", MERGEKIT_NOTE)}
        if type(block.get("seed", 0)) is not int:
            self.faults.add("mergesmith.seed", f"must be a whole number, but is {block['seed']!r}")
            del block["seed"]
        return block

    def dtype(self, value: object, place: str) -> str | None:
        name = str(value).removeprefix("torch.")
        if value is not None and name not in RECIPE_DTYPES:
            self.faults.add(place, unknown("dtype", value, RECIPE_DTYPES))
        return None if value is None else name

    def text(self, value: object, place: str) -> str | None:
        if value is not None and not isinstance(value, str):
            self.faults.add(place, f"must be text, but is {_kind(value)}")
            return None
        return value

    def template(self, value: object) -> str | None:
        text = self.text(value, "chat_template")
        if text is not None and (fault := template_fault(text)) is not None:
            self.faults.add("chat_template", fault)
        return text

    def reference(self, value: object, place: str) -> str | None:
        return self.text(reference_text(value, place, self.faults), place)

    def entries(self, document: dict[str, Any], key: str, place: str) -> list[Any]:
        value = document.get(key, [])
        path = f"{place}.{key}" if place else key
        if key in document and (not isinstance(value, list) or not value):
            self.faults.add(path, "must be a list with at least one entry")
            return []
        return value

    def is_mapping(self, value: object, place: str) -> bool:
        if not isinstance(value, dict):
            self.faults.add(place, f"must be a mapping, but is {_kind(value)}")
        return isinstance(value, dict)

    def keys(self, value: dict[Any, Any], known: tuple[str, ...], place: str) -> None:
        for key in value:
            if key not in known:
                self.unknown(f"{place}.{key}" if place else str(key), unknown_key(key, known))

    def unknown(self, place: str, message: str) -> None:
        if self.lenient:
            self.warn(place, message)
        else:
            self.faults.add(place, message)

    def warn(self, place: str, message: str) -> None:
        warnings.warn(f"{self.where}: {place}: {message}", RecipeWarning, stacklevel=2)
