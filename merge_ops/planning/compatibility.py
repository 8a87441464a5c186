"""Checks that the sources of a recipe are compatible; reports all differences in one error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mergesmith.errors import Faults, first_few

from ..architectures.architecture import TEXT, is_before_layers
from ..bank.model_bank import ModelBank
from ..bank.residency import InputKey
from ..recipes.blocks import Slice
from ..recipes.recipe import Recipe

MERGE_THEM = "give tokenizer_source (union, base or a model) to merge the vocabularies"
MOST = 8  # examples listed per kind of difference


def check_fit(
    recipe: Recipe,
    bank: ModelBank,
    tensors: Iterable[tuple[str, tuple[InputKey, ...]]],
    slices: Sequence[Slice],
    *,
    part: str = TEXT,
) -> None:
    """Compare architectures, layer counts, vocabularies, and the presence and shape of every tensor of one part.

    Raises:
        UserError: the models differ; all differences are listed.
    """
    faults = Faults("the models do not fit each other")
    _check_families(recipe, bank, faults)
    _check_layers(recipe, bank, slices, faults, part)
    if recipe.vocabulary is None:  # otherwise embeddings and heads are rebuilt for the output's vocabulary
        _check_vocabulary(recipe.references(), bank, faults)
    if not faults.messages:
        _check_tensors(bank, list(tensors), slices, faults, part, vocabulary=recipe.vocabulary is not None)
    faults.raise_if_any()


def _check_families(recipe: Recipe, bank: ModelBank, faults: Faults) -> None:
    """Check that the models are of one family and class: others use tensors of the same names differently."""
    kinds = {model: str(bank[model].config.get("model_type")) for model in recipe.references()}
    if len(set(kinds.values())) > 1 and not bank.allow_different_architectures:
        faults.add(
            "architectures",
            f"the models are {_listed(kinds)}; --allow-different-architectures merges them all the same, as the "
            "base or first model's architecture",
        )
        return
    classes = {model: bank[model].architecture.class_name for model in recipe.references()}
    language = {model: bank[model].architecture.is_language_model for model in recipe.references()}
    if len(set(language.values())) > 1 or (len(set(classes.values())) > 1 and not all(language.values())):
        faults.add(
            "architectures",
            f"the models are {_listed(classes)}, which differ in their heads; merge models of one class",
        )


def _check_layers(recipe: Recipe, bank: ModelBank, slices: Sequence[Slice], faults: Faults, part: str) -> None:
    models = dict.fromkeys(source.model for run in slices for source in run.sources)
    counts = {model: bank[model].architecture.depth(part) for model in models}
    if recipe.models and len(set(counts.values())) > 1:
        faults.add("layers", f"the models have {_listed(counts)}; take equal runs of layers with slices")
    for i, run in enumerate(recipe.slices):
        for source in run.sources:
            if source.layer_range and source.layer_range[1] > counts[source.model]:
                faults.add(
                    f"slices[{i}]",
                    f"layer_range {list(source.layer_range)} of '{source.model}' needs more than its "
                    f"{counts[source.model]} layers",
                )


def check_vocabulary(references: Sequence[str], bank: ModelBank) -> None:
    """Compare only the vocabularies of models.

    Raises:
        UserError: the vocabularies differ.
    """
    faults = Faults("the models do not fit each other")
    _check_vocabulary(references, bank, faults)
    faults.raise_if_any()


def _check_vocabulary(references: Sequence[str], bank: ModelBank, faults: Faults) -> None:
    sizes = {ref: bank[ref].architecture.vocab_size for ref in references}
    if len(set(sizes.values())) > 1:
        faults.add("vocabulary", f"the models have {_listed(sizes)} tokens; {MERGE_THEM}")
    known = [ref for ref in references if bank[ref].vocabularies]
    others = [ref for ref in known if not _same_tokens(bank[known[0]].vocabularies, bank[ref].vocabularies)]
    if others:
        faults.add(
            "tokenizer",
            f"that of {', '.join(map(repr, others))} gives other tokens than that of '{known[0]}'; {MERGE_THEM}",
        )


def _same_tokens(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two tokenizers agree in the best kind of file that both have; True if they have no kind in common."""
    kind = next((kind for kind in one if kind in other), None)
    return kind is None or one[kind] == other[kind]


def _check_tensors(
    bank: ModelBank,
    tensors: Sequence[tuple[str, tuple[InputKey, ...]]],
    slices: Sequence[Slice],
    faults: Faults,
    part: str,
    *,
    vocabulary: bool,
) -> None:
    missing: dict[str, list[str]] = {}
    shapes: list[str] = []
    for name, inputs in tensors:
        shape_of: dict[str, tuple[int, ...]] = {}
        compared: set[tuple[int, ...]] = set()
        for model, input_name in inputs:
            entry = bank[model].entries.get(input_name)
            if entry is None:
                missing.setdefault(model, []).append(input_name)
            else:
                shape_of[model] = entry.shape
                # Rows are rebuilt for the output's vocabulary, so their number may differ.
                rebuilt = vocabulary and input_name in bank[model].architecture.vocabulary
                compared.add(entry.shape[1:] if rebuilt else entry.shape)
        if len(compared) > 1:
            shapes.append(f"{name} is " + ", ".join(f"{list(shape)} in '{model}'" for model, shape in shape_of.items()))
    for model, names in missing.items():
        tied = [n for n in names if n in bank[model].architecture.ties]
        why = " (it ties them to its embeddings, the others do not)" if tied == names else ""
        faults.add(f"'{model}'", f"lacks {first_few(names, MOST)}, which others have{why}")
    for model, names in _unused(bank, tensors, slices, part).items():
        faults.add(f"'{model}'", f"has {first_few(names, MOST)}, which the merged model would lack")
    if shapes:
        faults.add("shapes", first_few(shapes, MOST, separator="; "))


def _unused(
    bank: ModelBank, tensors: Sequence[tuple[str, tuple[InputKey, ...]]], slices: Sequence[Slice], part: str
) -> dict[str, list[str]]:
    """Return tensors by model that belong to its slices but to no output (such as an untied head or biases)."""
    used = {key for _, inputs in tensors for key in inputs}
    unused: dict[str, dict[str, None]] = {}
    for i, run in enumerate(slices):
        for source in run.sources:
            architecture = bank[source.model].architecture
            for name in bank[source.model].entries:
                if architecture.part(name) != part:
                    continue
                layer = architecture.layer(name)
                if layer is None:
                    counts = i == (0 if is_before_layers(name) else len(slices) - 1)
                else:
                    counts = source.layer_range is not None and layer in range(*source.layer_range)
                if counts and (source.model, name) not in used:
                    unused.setdefault(source.model, {})[name] = None
    return {model: list(names) for model, names in unused.items()}


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{value} ('{model}')" for model, value in values.items())
