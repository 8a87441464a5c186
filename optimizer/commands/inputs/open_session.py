"""Opening of a session that reports the faults of models, space and tasks together."""

from __future__ import annotations

from pathlib import Path

from mergesmith.errors import Faults

from ....evaluators import check_task_names
from ...config import RunConfig
from ...session.options import Options
from ...session.session import Session


def open_session(config: RunConfig, root: Path, options: Options) -> Session:
    """Open the sources and check the search space.

    Raises:
        UserError: a source is missing, damaged or does not fit the others, or the space is at fault; unknown tasks,
            which loading the tasks would report later, are listed too.
    """
    faults = Faults("search.yaml")
    with faults.collecting():
        session = Session(config, root, options)
        session.space  # noqa: B018 (checked on first use)
        return session
    with faults.collecting():
        check_task_names(config.tasks, config.task_path, root)
    faults.raise_if_any()
    raise AssertionError("Should not reach.")
