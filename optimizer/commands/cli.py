"""The command line: declares the commands and turns errors into exit codes.

Exit codes: 0 success, 1 a check or a run failed, 2 the input is wrong, 130 or 143 stopped by a signal. The commands
import their code when they are called, so that short ones start fast.
"""

from __future__ import annotations

import atexit
import gc
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mergesmith.errors import UserError

from ..stop_signals import StoppedError, install
from ..terminal.console import make_console
from .cli_readers import readers
from .cli_start import starters

app = typer.Typer(
    name="mergesmith",
    help="Finds good merge recipes for language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
CHECK_FAILED, WRONG_INPUT = 1, 2

SearchFile = Annotated[Path, typer.Argument(help="The run's search.yaml.", metavar="SEARCH.YAML")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code-execution", help="Let tasks run code that the model wrote (such as HumanEval).")
]
RemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that a checkpoint contains.")]
Trials = Annotated[int | None, typer.Option(min=0, help="Number of candidates to propose; overrides search.trials.")]
TimeLimit = Annotated[str | None, typer.Option(help="Stop proposing candidates after this time: 90s, 30m, 8h.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Number of workers; overrides workers.count.")]
Output = Annotated[Path | None, typer.Option(help="The run's folder; overrides output.")]


def main() -> None:
    """Run the command line; report the user's mistakes in one message with exit code 2."""
    install()
    atexit.register(_end_quickly)
    warnings.showwarning = _show_warning
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UserError as error:
        _fail(str(error), WRONG_INPUT)
    except StoppedError as stop:
        running = sys.argv[1:2] in (["search"], ["demo"])
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
    from ...evaluators import is_device_lost, is_out_of_memory

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
    print(f"mergesmith: {message}", file=sys.stderr)
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Print the warnings of this package and drop those of other libraries."""
    if category.__module__.startswith("mergesmith"):
        print(f"warning: {message}", file=sys.stderr)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the demo's models, tasks and run.")] = Path("demo"),
    trials: Trials = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads to train with.")] = 1,
) -> None:
    """Train four tiny models, then search for their best merge. Needs no network."""
    from .demo import run_demo

    run_demo(folder, trials=trials, threads=threads, console=make_console())


@app.command()
def search(
    path: SearchFile,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run, if there is one.")] = False,
    trials: Trials = None,
    time_limit: TimeLimit = None,
    output: Output = None,
    workers: Workers = None,
    control: Annotated[
        Literal["random"] | None,
        typer.Option(help="Add a random search that takes as many item scores, and compare the two."),
    ] = None,
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Search for the best merge of the models in a search.yaml."""
    from ..config import parse_duration
    from ..session.options import Options
    from .inputs.overrides import Overrides
    from .search import run_search

    seconds = None if time_limit is None else parse_duration(time_limit)
    run_search(
        path,
        resume=resume,
        overrides=Overrides(trials, seconds, output, workers, control),
        options=Options(allow_code_execution, trust_remote_code),
        console=make_console(),
    )


@app.command()
def replay(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the repeated run; default: RUN_DIR-replay.")] = None,
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Repeat a run's trials in the recorded order and compare the results."""
    from ..run_folder.run_folder import RunFolder as Run
    from ..session.options import Options
    from .inputs.config_checks import check_names

    run = Run.open(run_dir)
    check_names(run.config, run.root, where=str(run_dir))
    from .replay import run_replay

    options = Options(allow_code_execution, trust_remote_code)
    if not run_replay(run_dir, output, options=options, console=make_console()):
        raise typer.Exit(CHECK_FAILED)


@app.command()
def plan(
    path: SearchFile,
    trials: Trials = None,
    score: Annotated[
        bool,
        typer.Option("--score", help="Score base and models on 300 items; warn about suspicious scores."),
    ] = False,
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Check a search.yaml without searching: errors, dimensions, memory, time."""
    from ..session.options import Options
    from .inputs.config_checks import checked_config
    from .inputs.overrides import Overrides

    config = checked_config(path, Overrides(trials))
    from .plan import run_plan

    options = Options(allow_code_execution, trust_remote_code)
    run_plan(config, path, options=options, score=score, console=make_console())


@app.command()
def merge(
    recipe: Annotated[Path, typer.Argument(help="A recipe in mergekit's YAML.")],
    out: Annotated[Path, typer.Argument(help="The checkpoint folder to write.")],
    seed: Annotated[int | None, typer.Option(help="Seed of random masks; overrides the recipe.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Dtype to which inputs are cast; overrides the recipe.")] = None,
    out_dtype: Annotated[str | None, typer.Option(help="Dtype of the written weights; overrides the recipe.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device to compute on: cpu, cuda, auto; default: as recorded, else cpu."),
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest size of a weight file, such as 5GB or 200MB.")] = "5GB",
    copy_tokenizer: Annotated[
        bool, typer.Option(help="Write the tokenizer's files too; with tokenizer_source they always are.")
    ] = True,
    model_card: Annotated[bool, typer.Option(help="Write a README.md too.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the contents of OUT.")] = False,
    lenient: Annotated[bool, typer.Option("--lenient", help="Warn about unknown keys instead of failing.")] = False,
    allow_different_architectures: Annotated[
        bool, typer.Option("--allow-different-architectures", help="Merge models of different families.")
    ] = False,
    allow_nonfinite: Annotated[
        bool, typer.Option("--allow-nonfinite", help="Write NaN and infinite values, with a warning.")
    ] = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Merge a recipe into a checkpoint and compare it with the digest that the recipe records."""
    from .inputs.recipe_files import checked_recipe

    given = checked_recipe(recipe, out, lenient=lenient, overwrite=overwrite)
    from .merge import MergeOptions, merge_recipe

    options = MergeOptions(
        seed=seed,
        dtype=dtype,
        out_dtype=out_dtype,
        device=device,
        overwrite=overwrite,
        max_shard_size=max_shard_size,
        copy_tokenizer=copy_tokenizer,
        write_card=model_card,
        allow_nonfinite=allow_nonfinite,
        allow_different_architectures=allow_different_architectures,
        trust_remote_code=trust_remote_code,
    )
    check = merge_recipe(given, recipe, out, options)
    print(f"wrote {check.written.folder}")
    print(check.sentence)
    if check.claim is not None and not check.reproduced:
        raise typer.Exit(CHECK_FAILED)


@app.command(name="eval")
def evaluate(
    target: Annotated[str, typer.Argument(help="A checkpoint folder, hub id, or recipe file.")],
    config: Annotated[Path, typer.Option(help="The search.yaml with the tasks.")],
    part: Annotated[Literal["search", "select", "report"], typer.Option(help="The part of the items.")] = "search",
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Score a model or a recipe on the tasks of a search.yaml."""
    from ..session.options import Options
    from .inputs.config_checks import checked_config
    from .inputs.recipe_files import check_target

    checked_config(config)
    check_target(target)
    from .evaluate import run_eval

    options = Options(allow_code_execution, trust_remote_code)
    run_eval(target, config=config, part=part, options=options, console=make_console())


@app.command()
def verify(
    recipe: Annotated[Path, typer.Argument(help="A run's best.yaml.")],
    config: Annotated[Path | None, typer.Option(help="The search.yaml, if the run's folder is gone.")] = None,
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Merge a best.yaml again, score it with lm-eval's evaluation loop, and compare digests and scores."""
    from ..session.options import Options
    from .inputs.config_checks import checked_config

    if config is not None:
        checked_config(config)
    from .verify import run_verify

    options = Options(allow_code_execution, trust_remote_code)
    if not run_verify(recipe, config=config, options=options, console=make_console()):
        print("mergesmith: the recipe's claims were NOT confirmed", file=sys.stderr)
        raise typer.Exit(CHECK_FAILED)
    print("verified: the recipe gives the recorded weights and scores")


app.add_typer(readers)
app.add_typer(starters)


if __name__ == "__main__":
    main()
