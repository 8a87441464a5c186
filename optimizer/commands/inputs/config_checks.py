"""Checks of a search.yaml that need neither torch nor transformers, lm-eval or Optuna, which import for seconds.

A fault that is found here is reported within a second. Tasks are loaded, and models opened, only afterwards.
"""

from __future__ import annotations

from pathlib import Path

from mergesmith.errors import Faults

from ....evaluators import check_files, check_task_names
from ....merge_ops import check_reference, read_recipe
from ....search_spaces import MergeIngredients, SearchSpace
from ...config import RunConfig, load_config
from ...run_folder.run_folder import config_root
from .overrides import Overrides


def checked_config(path: Path, overrides: Overrides | None = None) -> RunConfig:
    """Return a search.yaml with the command line's values, after checking its models, space, tasks and files.

    Raises:
        UserError: the file is invalid, or names something that does not exist; all faults are listed.
    """
    config = (overrides or Overrides()).apply(load_config(path))
    check_names(config, config_root(path), where=str(path))
    return config


def check_names(config: RunConfig, root: Path, *, where: str) -> None:
    """Check that everything exists that a configuration names, as far as that can be seen without opening it.

    Names of tasks, which take long to look up if they are wrong, are checked only if there are other faults, so that
    one message lists all of them: loading the tasks checks them anyway.

    Raises:
        UserError: lists all faults; `where` names the configuration.
    """
    faults = Faults(where)
    for reference in (config.base_model, *config.models):
        with faults.collecting():
            check_reference(reference, (root,))
    with faults.collecting():
        names = config.models, "float32", config.search.seed, config.tokenizer_reference
        SearchSpace(config.space, MergeIngredients(config.base_model, *names))
    for recipe in config.baselines:
        with faults.collecting():
            read_recipe(root / recipe)
    with faults.collecting():
        check_files(config.tasks, config.task_path, root)
    if faults.messages:
        with faults.collecting():
            check_task_names(config.tasks, config.task_path, root)
    faults.raise_if_any()
