"""Declares the commands that open models: search, plan, merge, eval and others. `main.py` includes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ...terminal.console import make_console, print_json
from .arguments import AllowCode, Json, Output, RemoteCode, SearchFile, TimeLimit, Trials, Workers

runners = typer.Typer(rich_markup_mode=None)
CHECK_FAILED = 1  # exit code


@runners.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the demo's models, tasks and run.")] = Path("demo"),
    trials: Trials = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads to train with.")] = 1,
) -> None:
    """Train four tiny models, then search for their best merge. Needs no network."""
    from ..demo import run_demo

    run_demo(folder, trials=trials, threads=threads, console=make_console())


@runners.command()
def search(
    path: SearchFile,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run, if there is one.")] = False,
    trials: Trials = None,
    time_limit: TimeLimit = None,
    output: Output = None,
    workers: Workers = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard the run that the folder holds.")] = False,
    control: Annotated[
        Literal["random"] | None,
        typer.Option(help="Add a random search that takes as many item scores, and compare the two."),
    ] = None,
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Search for the best merge of the models in a search.yaml."""
    from ...config import parse_duration
    from ...session.options import Options
    from ..inputs.overrides import Overrides
    from ..search import run_search

    seconds = None if time_limit is None else parse_duration(time_limit)
    run_search(
        path,
        resume=resume,
        overwrite=overwrite,
        overrides=Overrides(trials, seconds, output, workers, control),
        options=Options(allow_code_execution, trust_remote_code),
        console=make_console(),
    )


@runners.command()
def replay(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the repeated run; default: RUN_DIR-replay.")] = None,
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Repeat a run's trials in the recorded order and compare the results."""
    from ...run_folder.run_folder import RunFolder as Run
    from ...session.options import Options
    from ..inputs.config_checks import check_names

    run = Run.open(run_dir)
    check_names(run.config, run.root, where=str(run_dir))
    from ..replay import run_replay

    options = Options(allow_code_execution, trust_remote_code)
    if not run_replay(run_dir, output, options=options, console=make_console()):
        raise typer.Exit(CHECK_FAILED)


@runners.command()
def plan(
    path: SearchFile,
    trials: Trials = None,
    score: Annotated[
        bool,
        typer.Option("--score", help="Score base and models on 300 items; warn about suspicious scores."),
    ] = False,
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
    as_json: Json = False,
) -> None:
    """Check a search.yaml without searching: errors, dimensions, memory, time."""
    from ...session.options import Options
    from ..inputs.config_checks import checked_config
    from ..inputs.overrides import Overrides

    config = checked_config(path, Overrides(trials))
    from ..plan import run_plan

    options = Options(allow_code_execution, trust_remote_code)
    found = run_plan(config, path, options=options, score=score, console=make_console(silent=as_json))
    if as_json:
        print_json(found)


@runners.command()
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
    from ..inputs.recipe_files import checked_recipe

    given = checked_recipe(recipe, out, lenient=lenient, overwrite=overwrite)
    from ..merge import MergeOptions, merge_recipe

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


@runners.command(name="eval")
def evaluate(
    target: Annotated[str, typer.Argument(help="A checkpoint folder, hub id, or recipe file.")],
    config: Annotated[Path, typer.Option(help="The search.yaml with the tasks.")],
    part: Annotated[Literal["search", "select", "report"], typer.Option(help="The part of the items.")] = "search",
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
    as_json: Json = False,
) -> None:
    """Score a model or a recipe on the tasks of a search.yaml."""
    from ...session.options import Options
    from ..inputs.config_checks import checked_config
    from ..inputs.recipe_files import check_target

    checked_config(config)
    check_target(target)
    from ..evaluate import run_eval

    options = Options(allow_code_execution, trust_remote_code)
    run_eval(target, config=config, part=part, options=options, console=make_console(), as_json=as_json)


@runners.command()
def verify(
    recipe: Annotated[Path, typer.Argument(help="A run's best.yaml.")],
    config: Annotated[Path | None, typer.Option(help="The search.yaml, if the run's folder is gone.")] = None,
    allow_code_execution: AllowCode = False,
    trust_remote_code: RemoteCode = False,
    as_json: Json = False,
) -> None:
    """Merge a best.yaml again, score it with lm-eval's evaluation loop, and compare digests and scores."""
    from ...session.options import Options
    from ..inputs.config_checks import checked_config

    if config is not None:
        checked_config(config)
    from ..verify import run_verify

    options = Options(allow_code_execution, trust_remote_code)
    found = run_verify(recipe, config=config, options=options, console=make_console(silent=as_json))
    if as_json:
        print_json(found.to_document())
    if not found.passed:
        print("mergesmith: the recipe's claims were NOT confirmed", file=sys.stderr)
        raise typer.Exit(CHECK_FAILED)
    if not as_json:
        print("verified: the recipe gives the recorded weights and scores")
