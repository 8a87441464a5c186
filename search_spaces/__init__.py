"""Search spaces over merge recipes: from points of named dimensions to recipes and back. Independent of scores.

Importing this package imports no torch; `WeightJacobian`, which reads models, is imported at its first use.
"""

from typing import TYPE_CHECKING

from .baselines import BASE, UNIFORM, baselines, left_out, parent_name
from .config import SpaceConfig
from .coordinates import Coordinates
from .dimensions import Choice, Dimension, Float, Params, Value
from .ingredients import MergeIngredients
from .parameter_slot import OutsideSpaceError
from .space import METHOD, SearchSpace
from .tensor_filters import filter_substrings

if TYPE_CHECKING:
    from .weight_jacobian import WeightJacobian, weight_dimensions

__all__ = [
    "BASE",
    "METHOD",
    "UNIFORM",
    "Choice",
    "Coordinates",
    "Dimension",
    "Float",
    "MergeIngredients",
    "OutsideSpaceError",
    "Params",
    "SearchSpace",
    "SpaceConfig",
    "Value",
    "WeightJacobian",
    "baselines",
    "filter_substrings",
    "left_out",
    "parent_name",
    "weight_dimensions",
]


def __getattr__(name: str) -> object:
    if name not in ("WeightJacobian", "weight_dimensions"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import weight_jacobian

    return getattr(weight_jacobian, name)
