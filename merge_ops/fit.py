"""Whether the sources of a recipe fit each other: everything that differs is told in one message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mergesmith.errors import Faults

from .bank import InputKey, ModelBank
from .recipe import Recipe, Slice

MOST = 8  # examples named of one kind of difference


def check_fit(
    recipe: Recipe, bank: ModelBank, tensors: Iterable[tuple[str, tuple[InputKey, ...]]], slices: Sequence[Slice]
) -> None:
    """Compare layer counts, vocabularies, tokenizers, and every tensor's presence and shape.

    Raises:
        UserError: something differs.
    """
    faults = Faults("the models do not fit each other")
    _check_layers(recipe, bank, slices, faults)
    _check_vocabulary(recipe, bank, faults)
    if not faults.found:
        _check_tensors(bank, tensors, faults)
    faults.raise_if_any()


def _check_layers(recipe: Recipe, bank: ModelBank, slices: Sequence[Slice], faults: Faults) -> None:
    models = dict.fromkeys(source.model for part in slices for source in part.sources)
    counts = {model: bank[model].architecture.num_layers for model in models}
    if recipe.models and len(set(counts.values())) > 1:
        faults.add("layers", f"the models have {_listed(counts)}; take equal runs of layers with slices")
    for i, part in enumerate(recipe.slices):
        for source in part.sources:
            if source.layer_range and source.layer_range[1] > counts[source.model]:
                faults.add(
                    f"slices[{i}]",
                    f"layer_range {list(source.layer_range)} of '{source.model}' needs more than its "
                    f"{counts[source.model]} layers",
                )


def _check_vocabulary(recipe: Recipe, bank: ModelBank, faults: Faults) -> None:
    references = recipe.references()
    sizes = {ref: int(bank[ref].config.get("vocab_size") or 0) for ref in references}
    if len(set(sizes.values())) > 1:
        faults.add("vocabulary", f"the models have {_listed(sizes)} tokens; merging vocabularies is not supported yet")
    digests = {ref: bank[ref].tokenizer_digest for ref in references}
    known = Counter(digest for digest in digests.values() if digest is not None)
    if len(known) > 1:
        usual = known.most_common(1)[0][0]
        others = [ref for ref, digest in digests.items() if digest not in (None, usual)]
        usual_ref = next(ref for ref, digest in digests.items() if digest == usual)
        faults.add("tokenizer", f"that of {', '.join(map(repr, others))} differs from that of '{usual_ref}'")


def _check_tensors(bank: ModelBank, tensors: Iterable[tuple[str, tuple[InputKey, ...]]], faults: Faults) -> None:
    missing: dict[str, list[str]] = {}
    shapes: list[str] = []
    for name, inputs in tensors:
        found: dict[str, tuple[int, ...]] = {}
        for model, input_name in inputs:
            entry = bank[model].entries.get(input_name)
            if entry is None:
                missing.setdefault(model, []).append(input_name)
            else:
                found[model] = entry.shape
        if len(set(found.values())) > 1:
            shapes.append(f"{name} is " + ", ".join(f"{list(shape)} in '{model}'" for model, shape in found.items()))
    first = next(iter(bank.references))
    for model, names in missing.items():
        tied = [n for n in names if n in bank[model].architecture.ties]
        why = " (it ties them to its embeddings, the others do not)" if tied == names else ""
        faults.add(f"'{model}'", f"lacks {_some(names)}, which others have{why}")
    extra = _extra(bank, first)
    for model, names in extra.items():
        if not missing:
            faults.add(f"'{model}'", f"has {_some(names)}, which '{first}' lacks")
    if shapes:
        faults.add("shapes", _some(shapes, separator="; "))


def _extra(bank: ModelBank, first: str) -> dict[str, list[str]]:
    """Tensors outside the layers that only some models have (an untied head beside a tied one)."""
    own = bank[first].entries
    return {
        model: names
        for model in bank.references
        if (names := [n for n in bank[model].entries if n not in own and n in bank[first].architecture.ties])
    }


def _listed(values: dict[str, int]) -> str:
    return ", ".join(f"{value} ('{model}')" for model, value in values.items())


def _some(names: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(names) - MOST} more" if len(names) > MOST else ""
    return separator.join(names[:MOST]) + more
