"""From what an optimizer moves to recipes and back. Knows nothing of scores."""

from .baselines import BASE, UNIFORM, baselines, parent_name, single
from .branch import OutsideSpaceError
from .config import ParameterConfig, SpaceConfig
from .dimensions import Choice, Dimension, Float, Params, Value
from .space import METHOD, MergeIngredients, SearchSpace
from .weight_jacobian import WeightJacobian, weight_dimensions

__all__ = [
    "BASE",
    "METHOD",
    "UNIFORM",
    "Choice",
    "Dimension",
    "Float",
    "MergeIngredients",
    "OutsideSpaceError",
    "ParameterConfig",
    "Params",
    "SearchSpace",
    "SpaceConfig",
    "Value",
    "WeightJacobian",
    "baselines",
    "parent_name",
    "single",
    "weight_dimensions",
]
