"""From what an optimizer moves to recipes and back. Knows nothing of scores."""

from .baselines import BASE, UNIFORM, baselines, parent_name, single
from .config import ParameterConfig, SpaceConfig
from .coordinates import Coordinates
from .dimensions import Choice, Dimension, Float, Params, Value
from .method_space import OutsideSpaceError
from .space import METHOD, MergeIngredients, SearchSpace

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
    "ParameterConfig",
    "Params",
    "SearchSpace",
    "SpaceConfig",
    "Value",
    "baselines",
    "parent_name",
    "single",
]
