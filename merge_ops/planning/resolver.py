"""Resolves the parameter values of output tensors from the rules of a recipe."""

from __future__ import annotations

from collections.abc import Iterator

from mergesmith.errors import UserError

from ..bank.model_bank import ModelBank
from ..methods import Base, Parameter, ParameterValues, get_method
from ..recipes.blocks import Number, Parameters, Rule
from .structure import Output, PartRecipe


class Resolver:
    """Resolves the parameter values of the tensors of one part."""

    def __init__(self, part: PartRecipe, bank: ModelBank) -> None:
        self.recipe, self.method = part.recipe, get_method(part.recipe.merge_method)
        self.slices = part.slices(bank[part.donor].architecture.depth(part.part))

    @property
    def filters(self) -> set[str]:
        """The filters of all rules."""
        return {rule.filter for _, rule in self.rules() if rule.filter is not None}

    def rules(self) -> Iterator[tuple[str, Rule]]:
        """Yield (parameter, rule) of all levels."""
        levels = [self.recipe.parameters]
        for run in self.slices:
            levels += [run.parameters, *(source.parameters for source in run.sources)]
        yield from ((name, rule) for level in levels for name, setting in level.items() for rule in setting.rules)

    def values(self, output: Output) -> ParameterValues:
        """Return the parameter values of one output tensor.

        Raises:
            UserError: a required parameter is missing.
        """

        def value_of(parameter: Parameter, i: int | None) -> Number | None:
            rule = self.rule(parameter, output, i)
            if rule is not None:
                return rule.at(output.place.depth)
            if parameter.required:
                raise UserError(
                    f"recipe: no rule gives {parameter.name} for '{self._name(output, i)}': "
                    "add a rule without filter as the last of the list"
                )
            return parameter.default

        depth = output.place.model_depth
        return self.method.values(len(output.inputs), value_of, base=self._base(output), depth=depth)

    def rules_used(self, output: Output) -> Iterator[tuple[str, Rule]]:
        """Yield (parameter, rule) of the rules that give the values of one output tensor."""
        used: list[tuple[str, Rule]] = []

        def value_of(parameter: Parameter, i: int | None) -> None:
            rule = self.rule(parameter, output, i)
            used.extend([] if rule is None else [(parameter.name, rule)])

        self.method.values(len(output.inputs), value_of, base=self._base(output))
        yield from used

    def rule(self, parameter: Parameter, output: Output, i: int | None) -> Rule | None:
        """Return the first rule that matches a tensor, of input i or of all; levels closer to the input come first."""
        run = self.slices[output.place.slice]
        levels: tuple[Parameters, ...] = (run.parameters, self.recipe.parameters)
        if i is not None:
            levels = (run.sources[i].parameters, *levels)
        name = self._name(output, i)
        for level in levels:
            setting = level.get(parameter.name)
            rule = None if setting is None else setting.rule_of(name)
            if rule is not None:
                return rule
        return None

    def _name(self, output: Output, i: int | None) -> str:
        """Return the tensor name that filters are compared with."""
        # In a layer, that is the name in the source; outside, a tied model has another name for its head.
        return output.name if i is None or output.place.model_depth is None else output.inputs[i][1]

    def _base(self, output: Output) -> int | None:
        if self.method.base is Base.IGNORED:
            return None
        run = self.slices[output.place.slice]
        base = run.base_model or self.recipe.base_model
        return next((i for i, source in enumerate(run.sources) if source.model == base), None)
