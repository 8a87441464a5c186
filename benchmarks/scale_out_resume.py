"""How long a run of many trials takes to go on."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scale_out_driver import search_with_instant_scores
from scale_out_idle import environment, lines

PATIENCE = 300.0  # seconds
STEP = 0.02  # seconds between two looks


@dataclass(frozen=True)
class Resume:
    """Seconds on the clock from the program's start.

    Attributes:
        opened: until the models and tasks are open, which is no matter of the trials.
        asked: until the first new candidate is begun.
        megabytes: of the run's folder.
    """

    opened: float
    asked: float
    megabytes: float


def resume_time(folder: Path, trials: int) -> Resume:
    """Make a run of so many trials, then have the program go on with it as a user would."""
    search_with_instant_scores(folder, trials, proposals="random")
    size = sum(path.stat().st_size for path in (folder / "run").rglob("*")) / 1e6
    events = folder / "run" / "events.jsonl"
    known = events.stat().st_size
    command = [sys.executable, "-m", "mergesmith", "search", str(folder / "search.yaml"), "--resume", "--trials"]
    start = time.time()
    program = subprocess.Popen(
        [*command, str(trials + 1)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    try:
        while time.time() - start < PATIENCE and program.poll() is None:
            if b'"event":"asked"' in events.read_bytes()[known:]:
                break
            time.sleep(STEP)
    finally:
        program.kill()
    output, _ = program.communicate()
    at = {event["event"]: event["at"] - start for event in lines(events)[-5:]}
    if at.get("asked", -1) < 0:
        raise SystemExit(f"the run did not go on:\n{output}")
    return Resume(at["driver"], at["asked"], size)
