"""The application: all commands, the options that hold for every command, and the exit codes of errors.

Exit codes: 0 success, 1 a check or a run failed, 2 the input is wrong, 130 or 143 stopped by a signal. The commands
import their code when they are called, so that short ones start fast.
"""

from __future__ import annotations

import atexit
import gc
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from mergesmith import __version__
from mergesmith.errors import UserError

from ...stop_signals import StoppedError, install
from ...terminal.console import be_quiet
from .reading import readers
from .running import runners
from .starting import starters

app = typer.Typer(
    name="mergesmith",
    help="Finds good merge recipes for language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (runners, readers, starters):
    app.add_typer(commands)
CHECK_FAILED, WRONG_INPUT = 1, 2
QUIET, DEBUG = ("--quiet", "-q"), ("--debug",)  # may stand before or after the command


def _print_version(asked: bool) -> None:
    if asked:
        print(f"mergesmith {__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    quiet: Annotated[bool, typer.Option(*QUIET, help="Print results, warnings and errors only.")] = False,
    debug: Annotated[bool, typer.Option(*DEBUG, help="Print the traceback of an error.")] = False,
) -> None:
    """Finds good merge recipes for language models."""


def main() -> None:
    """Run the command line; report the user's mistakes in one message with exit code 2."""
    install()
    atexit.register(_end_quickly)
    warnings.showwarning = _show_warning
    arguments = [word for word in sys.argv[1:] if word not in (*QUIET, *DEBUG)]
    be_quiet(not set(QUIET).isdisjoint(sys.argv[1:]))
    try:
        sys.exit(app(arguments, standalone_mode=False) or 0)
    except UserError as error:
        _fail(str(error), WRONG_INPUT)
    except StoppedError as stop:
        running = arguments[:1] in (["search"], ["demo"])
        kept = "finished trials are kept: continue with --resume" if stop.kept else "no trial had finished"
        _fail(f"interrupted; {kept}" if running else "interrupted", stop.code)
    except RuntimeError as error:
        if type(error).__name__ not in ("RunFailedError", "MergeError", "ScoringError"):
            _fail_of_device(error)
            raise
        _fail(str(error), CHECK_FAILED)
    except Exception as error:
        _fail_of_usage(error)
        raise


def _fail_of_usage(error: Any) -> None:
    """Show an error of Typer (of click, in its older versions) about the arguments; return for other errors."""
    if callable(getattr(error, "show", None)) and hasattr(error, "exit_code"):
        error.message = error.message.replace("Value error, ", "")  # Typer quotes pydantic
        error.show()
        sys.exit(error.exit_code)


def _fail_of_device(error: RuntimeError) -> None:
    """Report an error in one message if it means that a device is out of memory or lost; return for other errors."""
    from ....evaluators import is_device_lost, is_out_of_memory

    reason = str(error).partition("\n")[0]
    if is_out_of_memory(error):
        _fail(f"out of memory: {reason}; end other programs on the device, or use a larger one", CHECK_FAILED)
    if is_device_lost(error):
        _fail(f"the device failed ({reason}); start again, a search with --resume", CHECK_FAILED)


def _end_quickly() -> None:
    """Skip the garbage collection at interpreter exit, which takes up to a second after importing torch."""
    if "triton" in sys.modules:  # its bindings report objects that are not freed
        gc.unfreeze()
    else:
        gc.freeze()


def _fail(message: str, code: int) -> None:
    if not set(DEBUG).isdisjoint(sys.argv[1:]):
        traceback.print_exc()
    print(f"mergesmith: {message}", file=sys.stderr)
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Print the warnings of this package and drop those of other libraries."""
    if category.__module__.startswith("mergesmith"):
        print(f"warning: {message}", file=sys.stderr)
