"""`mergesmith search`: runs a search.yaml and writes best.yaml."""

from __future__ import annotations

import datetime
import gc
import importlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mergesmith.errors import UserError

from ..config import RunConfig
from ..run_folder.completion import is_complete
from ..run_folder.file_names import is_run
from ..run_folder.lifecycle import check_same_run, create_run, discard_run, is_fruitless, resume_run
from ..run_folder.lock import take_lock
from ..run_folder.run_folder import RunFolder, config_root
from ..session.gc_pause import gc_paused
from ..session.options import Options
from ..stop_signals import StoppedError
from ..terminal.console import note
from ..terminal.progress import Report
from .inputs.config_checks import checked_config
from .inputs.overrides import Overrides
from .status import print_status, read_status

if TYPE_CHECKING:
    from ..search.verdict.records import Verdict  # imports the samplers
    from .driver import OnTrial


def run_search(
    path: Path, *, resume: bool, overrides: Overrides, options: Options, console: Console, overwrite: bool = False
) -> Verdict | None:
    """Run or resume a search and print its result; return None if the resumed run was complete already.

    With `overwrite`, a run in the folder is discarded first. One in which no candidate could be scored is discarded in
    any case: nothing is lost with it.

    Raises:
        UserError: the configuration, a source or a task is at fault, or the run's folder cannot be written.
        RunFailedError: nothing could be scored.
        StoppedError: a signal requested a stop.
    """
    config, root, output = located(path, overrides)
    if overwrite and resume:
        raise UserError("--overwrite discards the run that --resume continues: give one of them")
    _discard_if(output, overwrite=overwrite, console=console)
    return run_config(config, root, output, resume=resume, options=options, report=Report(console))


def located(path: Path, overrides: Overrides) -> tuple[RunConfig, Path, Path]:
    """Return the configuration in a search.yaml, the folder that its paths are relative to, and the run's folder.

    Raises:
        UserError: the file is invalid, or names something that does not exist.
    """
    config, root = checked_config(path, overrides), config_root(path)
    if overrides.output is None and is_run(path.parent):
        return config, root, path.parent  # search.yaml is the run's copy, and the run may have been moved
    return config, root, root / config.output


def run_config(
    config: RunConfig,
    root: Path,
    output: Path,
    *,
    resume: bool,
    options: Options,
    report: Report,
    on_trial: OnTrial | None = None,
) -> Verdict | None:
    """Do the same as `run_search` for a checked configuration; `root` and `output` are as in `located`."""
    # Check that the folder can be used before spending minutes on loading models and tasks.
    resume = resume and is_run(output)  # a job script may pass --resume from the first start on
    config = config.dated(RunFolder.open(output).config.chat.date if resume else datetime.date.today())
    if resume and _says_complete(output, config, report.console):
        return None
    open_run = resume_run if resume else create_run
    run_folder = open_run(output, config, root, announce=report.announce)
    try:
        _import_driver()
        from .driver import drive

        return drive(config, root, run_folder, options, report, on_trial=on_trial)
    except BaseException as error:
        kept = resume or bool(run_folder.trials())
        if not kept:
            discard_run(run_folder.path)  # the run has no trials yet: the user can correct the fault and start again
        if isinstance(error, StoppedError) and not kept:
            raise StoppedError(error.code, kept=False) from None
        raise
    finally:
        run_folder.close()


def _discard_if(output: Path, *, overwrite: bool, console: Console) -> None:
    """Discard a run if the user wishes it, or if none of its trials could be scored.

    Raises:
        UserError: another process works on it.
    """
    if not is_run(output):
        return
    if overwrite or is_fruitless(output):
        os.close(take_lock(output))
        discard_run(output)
        note(console, f"discarded the run in {output}" + ("" if overwrite else ", in which nothing could be scored"))


def _says_complete(output: Path, config: RunConfig, console: Console) -> bool:
    """Print the result of a run that is complete; return whether it is.

    Raises:
        UserError: the configuration is not the run's.
    """
    check_same_run(output, config)
    run_folder = RunFolder.open(output)
    if not is_complete(run_folder, config):
        return False
    print_status(read_status(output, time.time()), console)
    console.print("The run is complete, nothing was done. Search longer with --trials N.", highlight=False)
    return True


def _import_driver() -> None:
    """Import what a search needs without letting the garbage collector scan it, now or later, which takes a second."""
    name = f"{__package__}.driver"
    if name not in sys.modules:
        with gc_paused():
            importlib.import_module(name)
        gc.freeze()
