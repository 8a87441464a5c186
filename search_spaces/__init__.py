"""Search spaces over merge recipes: from points of named dimensions to recipes and back. Independent of scores."""

from .baselines import BASE, UNIFORM, baselines, left_out, parent_name
from .config import SpaceConfig
from .coordinates import Coordinates
from .dimensions import Choice, Dimension, Float, Params, Value
from .ingredients import MergeIngredients
from .parameter_slot import OutsideSpaceError
from .space import METHOD, SearchSpace
from .tensor_filters import filter_substrings
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
