"""The search space: from points to recipes and back.

A space is fixed before the first trial. Its root is the choice of the method, and each method has separate dimensions:
a point is `{"method": "ties", "ties.weight[./a]": 0.7, ...}` and names no dimension of another method.
"""

from __future__ import annotations

from mergesmith.errors import Faults, unknown

from ..merge_ops import METHODS, Recipe, Source
from .config import SpaceConfig
from .coordinates import Coordinates, arms
from .dimensions import Choice, Dimension, Params
from .ingredients import MergeIngredients
from .method_space import MethodSpace
from .model_groups import groups_of, models_of
from .parameter_slot import OutsideSpaceError
from .setting_checks import check_settings, doubts

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
            elif models_of(method, settings, ingredients, faults):
                groups = groups_of(method, settings, ingredients)
                space = MethodSpace(method, settings, config, groups=groups, ingredients=ingredients)
                check_settings(space, faults)
                self.method_spaces[name] = space
        faults.raise_if_any()

    def warnings(self, trials: int) -> list[str]:
        """Return sentences on settings that are allowed but probably not meant; `trials` is the search's number."""
        return [sentence for space in self.method_spaces.values() for sentence in doubts(space, trials)]

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
