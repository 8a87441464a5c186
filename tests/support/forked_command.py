"""`mergesmith ARGUMENTS` in a separate process, to be killed, interrupted or limited.

It is forked from a server that has imported what a search needs, which takes five seconds; the server is started at the
first call, once per session.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from checkout import ROOT

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [f"mergesmith.optimizer.{name}" for name in ("commands.cli", "commands.driver", "session.session")]
    + ["mergesmith.evaluators.tasks.suite_builder", "transformers.models.llama.modeling_llama"]
)


class ForkedCommand:
    """A running command; its output goes to files in `folder`."""

    def __init__(self, folder: Path, *arguments: object, limit: int | None = None) -> None:
        """Start the command; with `limit`, no file of it may hold more bytes."""
        self._streams = folder / "forked.out", folder / "forked.err"
        strings = list(map(str, arguments))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(ROOT))  # for the server's imports
            self._process = _CONTEXT.Process(target=_run, args=(strings, self._streams, dict(os.environ), limit))
            self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative after a signal; None while the command runs."""
        return self._process.exitcode

    @property
    def err(self) -> str:
        """What the command has written to standard error."""
        return self._streams[1].read_text() if self._streams[1].exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process has not ended."""
        if self.returncode is None and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def wait(self, seconds: float) -> str:
        """Return standard error after the end of the process, which must come within `seconds`."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            pytest.fail(f"the command runs on: {self.err}")
        return self.err


def _run(arguments: list[str], streams: tuple[Path, Path], environment: Mapping[str, str], limit: int | None) -> None:
    for path, descriptor in zip(streams, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.update(environment)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["mergesmith", *arguments]
    from mergesmith.optimizer.commands.cli import main

    main()
