"""The declaration of a merge method: its parameters, the inputs it takes, and its planner.

A method turns parameter values, and the statistics of the inputs that it asks for, into a plan, and an executor runs
the plan. A faster executor therefore serves every method at once. Few methods need a separate function (`Custom`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .plans import Plan

if TYPE_CHECKING:
    import torch


class Base(Enum):
    """The role of the base model in a method."""

    REQUIRED = "required"
    OPTIONAL = "optional"  # with a base the method works on task vectors, without one on the models themselves
    IGNORED = "ignored"  # a base model, if one is named, is an input like any other


class Scope(Enum):
    """What a parameter's value is attached to: the whole tensor, each input, or each non-base input."""

    TENSOR = "tensor"  # one per output tensor
    INPUT = "input"  # one per input model, the base included
    NON_BASE = "non_base"  # one per input model that is not the base


@dataclass(frozen=True)
class Range:
    """The default search range of a parameter."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method: its scope, default, legal values and default search range.

    `default=None` with `required=False` means "not applied". `low` and `high` are the closed bounds of legal values.
    `kind` is bool for switches and int for whole numbers. A search moves parameters that have a `search` range and
    holds the others at `search_fixed`, else at their default. A parameter without `effect` is accepted, as mergekit has
    it, and changes nothing. `mergekit` says whether mergekit knows it; the default of one that it does not know is
    neutral.
    """

    name: str
    scope: Scope
    default: float | bool | None = None
    required: bool = False
    kind: type = float
    low: float = -np.inf
    high: float = np.inf
    search: Range | None = None
    search_fixed: float | bool | None = None
    effect: bool = True
    mergekit: bool = True
    doc: str = ""


@dataclass(frozen=True)
class ParameterValues:
    """The resolved parameters of one output tensor.

    `tensor` holds TENSOR parameters; `inputs` holds one mapping per input, in order, with its INPUT or NON_BASE
    parameters (empty for the base if the method has only NON_BASE ones); `base` is the index of the base among them.
    `depth` is the relative depth of the output tensor: b / (L - 1) in layer b of L (0 if L is 1), None outside
    the layers.
    """

    tensor: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...]
    base: int | None
    depth: float | None = None

    @property
    def others(self) -> tuple[int, ...]:
        """The indices of the inputs that are not the base, in order."""
        return tuple(i for i in range(len(self.inputs)) if i != self.base)


class Statistics(Protocol):
    """Statistics of the inputs of one output tensor that a planner may use; computed on demand, once per run."""

    def gram(self) -> np.ndarray:
        """Return the inner products of the flattened inputs, (N, N) float64."""
        ...

    def delta_gram(self) -> np.ndarray:
        """Return the inner products of the flattened task vectors, (M, M) float64, of differences taken in float64."""
        ...

    def vector_gram(self, dim: int, *, deltas: bool) -> np.ndarray:
        """Return inner products of the vectors along `dim`, which keeps size 1, (N or M, N or M, ...) float64."""
        ...

    def merged_delta(self, derive: Callable[[Sequence[torch.Tensor]], torch.Tensor]) -> torch.Tensor:
        """Return `derive(task vectors)`, for a module-level function of them alone. It must not be written to."""
        ...


@dataclass(frozen=True)
class MergeMethod:
    """A merge method as data: declaration, paper, and the planner.

    `min_inputs` and `max_inputs` count all inputs of a slice including the base, but without it if the base is
    optional. `statistics` names what `plan` asks for. `random` says that the result depends on the seed,
    `mergekit` that mergekit has the method too.
    """

    name: str
    summary: str
    paper: str
    base: Base
    parameters: tuple[Parameter, ...]
    plan: Callable[[ParameterValues, Statistics], Plan]
    min_inputs: int = 1
    max_inputs: int | None = None
    statistics: tuple[str, ...] = ()
    random: bool = False
    mergekit: bool = True

    def parameter(self, name: str) -> Parameter | None:
        """Return the declaration of a parameter, or None."""
        return next((p for p in self.parameters if p.name == name), None)

    def values(
        self,
        inputs: int,
        value_of: Callable[[Parameter, int | None], Any],
        *,
        base: int | None = None,
        depth: float | None = None,
    ) -> ParameterValues:
        """Return the values of all parameters for one output tensor.

        `value_of(parameter, i)` gives the value for input i, or for the tensor (i is None), as the parameter's scope
        requires. `base` and `depth` are as in `ParameterValues`.
        """
        per_input = [p for p in self.parameters if p.scope is not Scope.TENSOR]
        return ParameterValues(
            {p.name: value_of(p, None) for p in self.parameters if p.scope is Scope.TENSOR},
            tuple(
                {p.name: value_of(p, i) for p in per_input if p.scope is Scope.INPUT or i != base}
                for i in range(inputs)
            ),
            base,
            depth,
        )


class PlanError(ValueError):
    """Parameter values that are each legal but together define no tensor, such as weights whose sum is 0."""
