"""From what an optimizer moves to recipes and back.

A space is fixed before the first trial. Its root is the choice of the method; each method has dimensions of its own,
so a point is `{"method": "ties", "ties.weight[./a]": 0.7, ...}` and names no dimension of another method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from mergesmith.errors import Faults, unknown

from ..merge_ops import METHODS, Base, MergeMethod, Parameter, Recipe, Scope, Source
from .branch import MethodSpace, OutsideSpaceError
from .config import PER_MODEL, ParameterConfig, SpaceConfig
from .dimensions import Choice, Dimension, Params

METHOD = "method"


@dataclass(frozen=True)
class MergeIngredients:
    """What is merged: references of the base and the fine-tunes, the dtype of the output, the seed of masks.

    `tokenizer_source`, where vocabularies differ: `union` or a model, the same for every candidate.
    """

    base: str
    models: tuple[str, ...]
    out_dtype: str
    seed: int = 0
    tokenizer_source: str | None = None


class SearchSpace:
    """The candidates of a search. `params(recipe(p)) == p` holds for every point p."""

    def __init__(self, config: SpaceConfig, subject: MergeIngredients) -> None:
        """Lay out the dimensions.

        Raises:
            UserError: a method or parameter is unknown, or cannot be searched; all such faults are listed.
        """
        self.subject = subject
        faults = Faults("space")
        self.branches: dict[str, MethodSpace] = {}
        for name, settings in config.methods.items():
            method = METHODS.get(name)
            if method is None:
                faults.add("methods", unknown("merge method", name, METHODS))
            elif method.max_inputs == 1:
                faults.add("methods", f"{name} takes one model and has nothing to search; leave it out")
            elif len(subject.models) < method.min_inputs - (method.base is Base.REQUIRED):
                law = method.min_inputs - (method.base is Base.REQUIRED)
                faults.add("methods", f"{name} needs at least {law} fine-tunes, but here are {len(subject.models)}")
            elif method.max_inputs == 2 and subject.tokenizer_source == "union" and len(subject.models) > 1:
                faults.add(
                    f"methods.{name}",
                    "merges two models at a time, and the union of two vocabularies is not that of all; leave it out, "
                    "or give tokenizer_source: base",
                )
            else:
                _check(method, settings, subject, faults)
                self.branches[name] = MethodSpace(
                    method, settings, config.knots, config.filters, _groups(method, subject)
                )
        faults.raise_if_any()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are searched."""
        return tuple(self.branches)

    @property
    def root(self) -> Choice:
        """The choice of the method."""
        return Choice(METHOD, self.methods)

    def dimensions(self, method: str) -> tuple[Dimension, ...]:
        """The dimensions of one method, in a fixed order."""
        return self.branches[method].dimensions

    def recipe(self, params: Params) -> Recipe:
        """The recipe at a point of the space."""
        subject = self.subject
        branch = self.branches[str(params[METHOD])]
        group = branch.group(params)
        sources = tuple(Source(model, None, branch.source_settings(model, params)) for model in group.listed)
        return Recipe(
            merge_method=branch.method.name,
            models=sources,
            base_model=group.base,
            parameters=branch.shared_settings(params),
            dtype="float32",
            out_dtype=subject.out_dtype,
            seed=subject.seed,
            tokenizer_source=subject.tokenizer_source,
        )

    def params(self, recipe: Recipe) -> Params:
        """The point of a recipe.

        Raises:
            OutsideSpaceError: the recipe is no point of this space; the message says why.
        """
        branch = self.branches.get(recipe.merge_method)
        if branch is None:
            raise OutsideSpaceError(f"the method {recipe.merge_method} is not searched")
        if recipe.intermediates:
            raise OutsideSpaceError("it merges intermediate merges, which are not searched")
        if recipe.modules:
            raise OutsideSpaceError("it merges the parts of a model each by itself, which is not searched")
        if recipe.slices:
            raise OutsideSpaceError("it has slices")
        if recipe.tokenizer is not None or recipe.tokenizer_source != self.subject.tokenizer_source:
            raise OutsideSpaceError(f"its tokenizer_source is not {self.subject.tokenizer_source or 'left out'}")
        if recipe.dtype not in (None, "float32") or recipe.out_dtype not in (None, self.subject.out_dtype):
            raise OutsideSpaceError(f"its dtypes are not float32 with out_dtype {self.subject.out_dtype}")
        if branch.method.random and recipe.seed != self.subject.seed:
            raise OutsideSpaceError(f"its masks have seed {recipe.seed}, those of the search {self.subject.seed}")
        return {METHOD: branch.method.name, **branch.read(recipe)}


@dataclass(frozen=True)
class Group:
    """Models that are merged together: the base, all that the recipe lists, and those that are searched."""

    name: str
    base: str | None
    listed: tuple[str, ...]
    searched: tuple[str, ...]


def _groups(method: MergeMethod, subject: MergeIngredients) -> tuple[Group, ...]:
    """The alternatives of models that a method can be given: all of them, or each pair for a method of two."""
    if method.base is Base.OPTIONAL:
        # With the base: the method then works on task vectors, and the output is configured as the base is.
        sets = combinations(subject.models, method.max_inputs) if method.max_inputs else [subject.models]
        return tuple(Group(" + ".join(models), subject.base, models, models) for models in sets)
    if method.max_inputs == 2:
        pairs = list(combinations(subject.models, 2)) or [(subject.base, subject.models[0])]
        return tuple(Group(f"{first} + {second}", first, (first, second), (first, second)) for first, second in pairs)
    if method.base is Base.REQUIRED:
        return (Group("all", subject.base, subject.models, subject.models),)
    if all(parameter.scope is not Scope.INPUT for parameter in method.parameters):
        return (Group("all", None, subject.models, subject.models),)
    # A method without a base still gets one, at weight 0: the output takes its configuration and tokenizer from there.
    return (Group("all", subject.base, (subject.base, *subject.models), subject.models),)


def _check(
    method: MergeMethod, settings: dict[str, ParameterConfig], subject: MergeIngredients, faults: Faults
) -> None:
    for key, config in settings.items():
        place = f"methods.{method.name}.{key}"
        match = PER_MODEL.fullmatch(key)
        name = match["name"] if match else key
        parameter = method.parameter(name)
        if parameter is None or not parameter.effect:
            known = [p.name for p in method.parameters if p.effect]
            faults.add(place, unknown("parameter", name, known))
            continue
        if match and parameter.scope is Scope.TENSOR:
            faults.add(place, f"{name} is shared by all models; it has no value per model")
        if match and method.max_inputs == 2:
            faults.add(place, f"{method.name} merges pairs; {name} belongs to a place in the pair, not to a model")
        if match and match["model"] not in subject.models:
            faults.add(place, unknown("model", match["model"], subject.models))
        _check_values(parameter, config, place, faults)


def _check_values(parameter: Parameter, config: ParameterConfig, place: str, faults: Faults) -> None:
    values: Sequence[float | bool] = config.range or config.choices or ()
    values = values if config.fixed is None else (config.fixed,)
    if parameter.kind is bool:
        if config.range is not None or any(value not in (True, False) for value in values):
            faults.add(place, f"{parameter.name} is a switch: true, false or {{choices: [true, false]}}")
    elif parameter.kind is int and (config.range is not None or any(value != int(value) for value in values)):
        faults.add(place, f"{parameter.name} is a whole number: one, or {{choices: [...]}}")
    elif any(not parameter.low <= value <= parameter.high for value in values):
        faults.add(place, f"must lie in [{parameter.low:g}, {parameter.high:g}], but is {list(values)}")
