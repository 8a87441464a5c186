"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SearchFile = Annotated[Path, typer.Argument(help="The run's search.yaml.", metavar="SEARCH.YAML")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code-execution", help="Let tasks run code that the model wrote (such as HumanEval).")
]
RemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that a checkpoint contains.")]
Trials = Annotated[int | None, typer.Option(min=0, help="Number of candidates to propose; overrides search.trials.")]
TimeLimit = Annotated[str | None, typer.Option(help="Stop proposing candidates after this time: 90s, 30m, 8h.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Number of workers; overrides workers.count.")]
Output = Annotated[Path | None, typer.Option(help="The run's folder; overrides output.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunDir = Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN_DIR")]
