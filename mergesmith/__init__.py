"""mergesmith searches for good merge recipes for language-model checkpoints.

    import mergesmith as ms

    run = ms.search("search.yaml")
    print(run.verdict["winner"], run.best_recipe.to_yaml())

The names in `__all__` are stable: until version 1.0, a change that breaks code using them is announced in the changelog
one minor version ahead, with a DeprecationWarning. Everything else in the package may change at any time. Each name is
imported when it is first used: `import mergesmith` alone loads neither torch nor lm-eval.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING

from mergesmith.errors import UserError

if TYPE_CHECKING:
    from mergesmith.merge_ops import Recipe
    from mergesmith.optimizer.api.callbacks.mlflow_tracker import MlflowCallback
    from mergesmith.optimizer.api.callbacks.tracker import Tracker
    from mergesmith.optimizer.api.callbacks.wandb_tracker import WandbCallback
    from mergesmith.optimizer.api.functions import evaluate, load_recipe, load_run, merge, search
    from mergesmith.optimizer.api.run import Run
    from mergesmith.optimizer.config import RunConfig as SearchConfig
    from mergesmith.optimizer.config import load_config
    from mergesmith.optimizer.run_folder.trial import Trial
    from mergesmith.optimizer.stop_signals import RunFailedError

__version__ = "0.1.0"
__all__ = [
    "MlflowCallback",
    "Recipe",
    "Run",
    "RunFailedError",
    "SearchConfig",
    "Tracker",
    "Trial",
    "UserError",
    "WandbCallback",
    "evaluate",
    "load_config",
    "load_recipe",
    "load_run",
    "merge",
    "search",
]

_FUNCTIONS = "optimizer.api.functions"
_HOMES = {  # name -> its module, and its name there if another
    "MlflowCallback": ("optimizer.api.callbacks.mlflow_tracker", ""),
    "Recipe": ("merge_ops", ""),
    "Run": ("optimizer.api.run", ""),
    "RunFailedError": ("optimizer.stop_signals", ""),
    "SearchConfig": ("optimizer.config", "RunConfig"),
    "Tracker": ("optimizer.api.callbacks.tracker", ""),
    "Trial": ("optimizer.run_folder.trial", ""),
    "WandbCallback": ("optimizer.api.callbacks.wandb_tracker", ""),
    "load_config": ("optimizer.config", ""),
    **dict.fromkeys(("evaluate", "load_recipe", "load_run", "merge", "search"), (_FUNCTIONS, "")),
}

# When installed, the four folders are inside this package; in a source checkout they are next to it.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, renamed = _HOMES[name]
    found = getattr(_import_module(f"{__name__}.{module}"), renamed or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
