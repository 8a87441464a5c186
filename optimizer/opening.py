"""Opens what a run works with: the driver's session, and the workers."""

from __future__ import annotations

from pathlib import Path

from .config import RunConfig
from .pools import LocalPool, Pool
from .run_folder.run_folder import RunFolder
from .session.load_sources import load_sources
from .session.session import Options, Session
from .session.versions import versions
from .terminal.progress import Report


def open_pool(
    config: RunConfig, root: Path, run_folder: RunFolder, options: Options, report: Report
) -> tuple[Session, Pool]:
    """The driver's session and the workers. With Ray the driver reads headers and tasks only: it may lack a GPU.

    Raises:
        UserError: a source is at fault, or there is no such cluster.
    """
    if config.workers.pool == "local":
        session = Session(config, root, options)
        load_sources(session, report.console)
        return session, LocalPool(session)
    from .pools.ray_pool import RayPool  # imports Ray

    pool = RayPool(config, root, options, note=run_folder.note, announce=report.announce)  # opens the sources meanwhile
    try:
        workers = config.workers.model_copy(update={"device": "cpu", "gpus_per_worker": None})
        session = Session(config.model_copy(update={"workers": workers}), root, options)
        pool.expect(session.ingredients(), versions())
    except BaseException:
        pool.close()
        raise
    return session, pool
