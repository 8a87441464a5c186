"""The search space: from points to recipes and back.

A space is fixed before the first trial. Its root is the choice of the method, and each method has separate dimensions:
a point is `{"method": "ties", "ties.weight[./a]": 0.7, ...}` and names no dimension of another method.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from mergesmith.errors import Faults, unknown

from ..merge_ops import METHODS, Base, MergeMethod, Parameter, Recipe, Scope, Source
from .config import PER_MODEL, ParameterConfig, SpaceConfig
from .coordinates import Coordinates, arms
from .dimensions import Choice, Dimension, Params
from .ingredients import MergeIngredients, ModelGroup
from .method_space import MethodSpace
from .parameter_slot import OutsideSpaceError

METHOD = "method"


class SearchSpace:
    """The candidates of a search. `params(recipe(p)) == p` holds for every point p."""

    def __init__(self, config: SpaceConfig, ingredients: MergeIngredients) -> None:
        """Set up the dimensions of every method.

        Raises:
            UserError: a method or parameter is unknown or cannot be searched; all such faults are listed.
        """
        self.ingredients = ingredients
        self.method_spaces: dict[str, MethodSpace] = {}
        faults = Faults("space")
        for name, settings in config.methods.items():
            method = METHODS.get(name)
            if method is None:
                faults.add("methods", unknown("merge method", name, METHODS))
            elif _fits(method, ingredients, faults):
                _check(method, settings, ingredients, faults)
                groups = _groups(method, ingredients)
                self.method_spaces[name] = MethodSpace(
                    method, settings, knots=config.knots, filters=config.filters, groups=groups
                )
        faults.raise_if_any()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are searched."""
        return tuple(self.method_spaces)

    @property
    def root(self) -> Choice:
        """The choice of the method."""
        return Choice(METHOD, self.methods)

    def dimensions(self, method: str) -> tuple[Dimension, ...]:
        """Return the dimensions of one method, in a fixed order."""
        return self.method_spaces[method].dimensions

    def arms(self, method: str) -> list[Coordinates]:
        """Return the cubes in which samplers move within one method: one for every setting of its choices."""
        return arms(self.method_spaces[method], {METHOD: method})

    def recipe(self, params: Params) -> Recipe:
        """Return the recipe at a point of the space."""
        method_space = self.method_spaces[str(params[METHOD])]
        group = method_space.group(params)
        return self.ingredients.recipe(
            method_space.method.name,
            tuple(Source(model, None, method_space.source_settings(model, params)) for model in group.listed),
            base_model=group.base,
            parameters=method_space.shared_settings(params),
        )

    def params(self, recipe: Recipe) -> Params:
        """Return the point of a recipe.

        Raises:
            OutsideSpaceError: the recipe is not in this space; the message gives the reason.
        """
        method_space = self.method_spaces.get(recipe.merge_method)
        if method_space is None:
            raise OutsideSpaceError(f"the method {recipe.merge_method} is not searched")
        if recipe.intermediates:
            raise OutsideSpaceError("it merges intermediate merges, which are not searched")
        if recipe.modules:
            raise OutsideSpaceError("it merges the parts of a model each by itself, which is not searched")
        if recipe.slices:
            raise OutsideSpaceError("it has slices")
        if recipe.tokenizer is not None or recipe.tokenizer_source != self.ingredients.tokenizer_source:
            raise OutsideSpaceError(f"its tokenizer_source is not {self.ingredients.tokenizer_source or 'left out'}")
        if recipe.dtype not in (None, "float32") or recipe.out_dtype not in (None, self.ingredients.out_dtype):
            raise OutsideSpaceError(f"its dtypes are not float32 with out_dtype {self.ingredients.out_dtype}")
        if method_space.method.random and recipe.seed != self.ingredients.seed:
            raise OutsideSpaceError(f"its masks have seed {recipe.seed}, those of the search {self.ingredients.seed}")
        return {METHOD: method_space.method.name, **method_space.read(recipe)}


def _fits(method: MergeMethod, ingredients: MergeIngredients, faults: Faults) -> bool:
    """Return whether a method can merge these models in a search; if not, add why not to `faults`."""
    name, fine_tunes = method.name, len(ingredients.models)
    least = method.min_inputs - (method.base is Base.REQUIRED)
    if method.max_inputs == 1:
        faults.add("methods", f"{name} takes one model and has nothing to search; leave it out")
    elif fine_tunes < least:
        faults.add("methods", f"{name} needs at least {least} fine-tunes, but here are {fine_tunes}")
    elif method.max_inputs == 2 and ingredients.tokenizer_source == "union" and fine_tunes > 1:
        faults.add(
            f"methods.{name}",
            "merges two models at a time, and the union of two vocabularies is not that of all; leave it out, "
            "or give tokenizer_source: base",
        )
    else:
        return True
    return False


def _groups(method: MergeMethod, ingredients: MergeIngredients) -> tuple[ModelGroup, ...]:
    """Return the groups of models that a method can merge: all models, or every pair for a method of two inputs."""
    if method.base is Base.OPTIONAL:
        # Given the base, the method works on task vectors, and the output takes the base's configuration.
        sets = combinations(ingredients.models, method.max_inputs) if method.max_inputs else [ingredients.models]
        return tuple(ModelGroup(" + ".join(models), ingredients.base, models, models) for models in sets)
    if method.max_inputs == 2:
        pairs = list(combinations(ingredients.models, 2)) or [(ingredients.base, ingredients.models[0])]
        return tuple(
            ModelGroup(f"{first} + {second}", first, (first, second), (first, second)) for first, second in pairs
        )
    if method.base is Base.REQUIRED:
        return (ModelGroup("all", ingredients.base, ingredients.models, ingredients.models),)
    if all(parameter.scope is not Scope.INPUT for parameter in method.parameters):
        return (ModelGroup("all", None, ingredients.models, ingredients.models),)
    # A method without a base still lists it, at weight 0: the output takes its configuration and tokenizer from there.
    return (ModelGroup("all", ingredients.base, (ingredients.base, *ingredients.models), ingredients.models),)


def _check(
    method: MergeMethod, settings: dict[str, ParameterConfig], ingredients: MergeIngredients, faults: Faults
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
        if match and match["model"] not in ingredients.models:
            faults.add(place, unknown("model", match["model"], ingredients.models))
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
