"""Inputs of the offline demo: a tiny base model and specialists trained on the spot, lm-eval tasks, a search.yaml."""

from .make import make_demo
from .zoo import DemoSize

__all__ = ["DemoSize", "make_demo"]
