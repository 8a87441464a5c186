"""From derivatives in the weights of every tensor to derivatives in the parameters of a search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..merge_ops import MergePlan, ModelBank, plan_merge
from .dimensions import Float, Params
from .space import METHOD, SearchSpace

WEIGHT = "weight"


@dataclass(frozen=True)
class WeightJacobian:
    """The derivatives of every tensor's weights in some parameters of a point.

    Per-tensor weights are linear in the parameters (constants, filters, interpolated knots), so these derivatives are
    the same at every point of one method and group of models.

    Attributes:
        entries: parameter name -> checkpoint name -> (inputs,) derivatives of that tensor's weights; zeros left out.
    """

    entries: Mapping[str, Mapping[str, np.ndarray]]

    @classmethod
    def of(cls, space: SearchSpace, params: Params, bank: ModelBank, *, names: Sequence[str] = ()) -> WeightJacobian:
        """Return the Jacobian at a point, by planning its recipe again with each parameter raised by 1.

        Reads no weights of models.

        Args:
            space: the space that the parameters belong to.
            params: a point of that space.
            bank: the models.
            names: the parameters; if empty, all of `weight_dimensions` that the point names.

        Raises:
            ValueError: a parameter changes more than weights.
        """
        names = names or [d.name for d in weight_dimensions(space, str(params[METHOD])) if d.name in params]
        here = plan_merge(space.recipe(params), bank)
        entries = {}
        for name in names:
            raised = plan_merge(space.recipe({**params, name: float(params[name]) + 1.0}), bank)
            entries[name] = dict(_differences(here, raised, name))
        return cls(entries)

    def slopes(self, tensors: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return dL/d(parameter) by name; `tensors` is checkpoint name -> dL/d(weights), (inputs,)."""
        return {
            name: float(sum(tensors[tensor] @ entry for tensor, entry in derivatives.items() if tensor in tensors))
            for name, derivatives in self.entries.items()
        }


def weight_dimensions(space: SearchSpace, method: str) -> tuple[Float, ...]:
    """Return the dimensions of a method that determine weights; none for a method without weights."""
    slots = [slot for slot in space.method_spaces[method].slots if slot.parameter.name == WEIGHT]
    dimensions = (dimension for slot in slots for knots in slot.dimensions.values() for dimension in knots)
    return tuple(dimension for dimension in dimensions if isinstance(dimension, Float))


def _differences(here: MergePlan, raised: MergePlan, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors whose weights differ, with the differences."""
    for before, after in zip(here.tasks, raised.tasks, strict=True):
        if before.values == after.values:
            continue
        pairs = list(zip(before.values.inputs, after.values.inputs, strict=True))
        others = [({**a, WEIGHT: 0.0}, {**b, WEIGHT: 0.0}) for a, b in pairs]
        if before.values.tensor != after.values.tensor or any(a != b for a, b in others):
            raise ValueError(f"{name} changes more than weights, which a WeightJacobian cannot describe")
        yield before.name, np.array([b.get(WEIGHT, 0.0) - a.get(WEIGHT, 0.0) for a, b in pairs])
