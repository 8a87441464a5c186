"""Recipes, checkpoints, merge methods, materializing. Knows nothing of search or scores."""

from .bank import ModelBank
from .checkpoint import Checkpoint, CheckpointWarning
from .digest import WeightsDigest
from .live import LiveModel
from .materialize import MergeError, materialize
from .methods import METHODS, MergeMethod, Parameter, Range, Scope, get_method
from .plan import MergePlan, plan_merge
from .recipe import Recipe, Rule, Setting, Slice, Source
from .recipe_yaml import RecipeWarning, parse_recipe, read_recipe, recipe_from_document
from .resolve import resolve_reference
from .tokenizer import load_tokenizer
from .write import Written, tokenizer_folder, write_merge
from .yaml_text import load_yaml

__all__ = [
    "METHODS",
    "Checkpoint",
    "CheckpointWarning",
    "LiveModel",
    "MergeError",
    "MergeMethod",
    "MergePlan",
    "ModelBank",
    "Parameter",
    "Range",
    "Recipe",
    "RecipeWarning",
    "Rule",
    "Scope",
    "Setting",
    "Slice",
    "Source",
    "WeightsDigest",
    "Written",
    "get_method",
    "load_tokenizer",
    "load_yaml",
    "materialize",
    "parse_recipe",
    "plan_merge",
    "read_recipe",
    "recipe_from_document",
    "resolve_reference",
    "tokenizer_folder",
    "write_merge",
]
