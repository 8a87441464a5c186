"""How a search scales: idle workers, the driver's time per trial, going on with a long run, and where one driver ends.

    python benchmarks/scale_out.py                       all rows, about six minutes on two cores
    python benchmarks/scale_out.py --only driver,resume  some of idle, driver, resume, saturation
    python benchmarks/scale_out.py --fault-run           also the test in which workers, nodes and drivers die

Prints tables in Markdown. Models are tiny; what is measured is what surrounds them, on a quiet machine:

idle        A search on Ray with four workers on processors, whose candidates sleep 0.5 to 1.5 s.
driver      A TPE search for 60 numbers with three candidates pending and 2,000 items in three tasks. All of it is real
            but the workers, who answer at once with made-up scores.
resume      A run of 5,000 trials, made in the same way, and then `mergesmith search --resume` in a process of its own.
saturation  What Ray's calls cost the driver; with it and the driver's row (which is needed), simulated searches of
            10,000 trials on up to 1,024 workers.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

from scale_out_driver import PENDING, WINDOW, Typical, describe, search_with_instant_scores
from scale_out_idle import WORKERS, environment, idle_time
from scale_out_ray import seconds_per_event
from scale_out_resume import resume_time
from scale_out_run import ROOT
from scale_out_saturation import TRIALS, Service, waiting

ROWS = ("idle", "driver", "resume", "saturation")
EARLY, LATE = 100, 1000  # trials at which the driver is measured
LENGTHS, CREWS = (10, 60), (16, 64, 256, 1024)  # seconds per candidate, workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROWS), help="rows, separated by commas")
    parser.add_argument("--fault-run", action="store_true", help="run the test with it, too")
    parser.add_argument("--trials", type=int, default=5000, help="of the run to resume")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if strangers := set(chosen) - set(ROWS):
        parser.error(f"--only: '{min(strangers)}' is none of {', '.join(ROWS)}")
    print(machine(), end="\n\n")
    print("| case | goal | measured |\n| --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "idle" in chosen:
            idle_row(folder / "idle")
        service = driver_rows(folder / "driver") if {"driver", "saturation"} & {*chosen} else None
        if "resume" in chosen:
            resume_row(folder / "resume", arguments.trials)
        if arguments.fault_run:
            fault_row()
        if service is not None and "saturation" in chosen:
            saturation_table(service)


def machine() -> str:
    """The machine and the versions, in a line."""
    packages = ("torch", "transformers", "lm_eval", "optuna", "ray")
    found = ", ".join(f"{package} {version(package)}" for package in packages)
    processor = next(
        (line.partition(": ")[2] for line in cpuinfo().splitlines() if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    here = f"{os.cpu_count()} cores ({processor}), load {os.getloadavg()[0]:.1f} at the start"
    return f"{here}, Python {platform.python_version()}, {found}"


def cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def row(case: str, goal: str, measured: str) -> None:
    print(f"| {case} | {goal} | {measured} |", flush=True)


def idle_row(folder: Path) -> None:
    idle = idle_time(folder, trials=150)
    low, high = idle.seconds
    row(
        f"worker idle time, {WORKERS} workers on processors, candidates of {low:.1f} to {high:.1f} s",
        "under 5 %",
        f"{idle.share:.1%} of {WORKERS} x {idle.window:.0f} s, {idle.finished} candidates",
    )


def driver_rows(folder: Path) -> Service:
    """Print what a trial costs the driver; returns it for the simulation."""
    costs = search_with_instant_scores(folder, LATE + 5 * WINDOW)
    numbers, items, blocks = describe(folder)
    early, late = (Typical.at(costs, number, blocks) for number in (EARLY, LATE))
    case = f"driver per trial, TPE over {numbers} numbers, {PENDING} pending, {items:,} items in {blocks} blocks"
    row(
        f"{case}: at trial {LATE:,}",
        "under 80 ms",
        f"{ms(late.cpu)} of processor time, {ms(late.wall)} on the clock",
    )
    row(
        "the same without TPE's own ask",
        f"under 10 % more at trial {LATE:,} than at {EARLY}",
        f"{ms(early.rest)} at {EARLY}, {ms(late.rest)} at {LATE:,}: {late.rest / early.rest - 1:+.1%}",
    )
    row("TPE's own ask", "", f"{ms(early.ask)} at {EARLY}, {ms(late.ask)} at {LATE:,}")
    growth = (late.ask - early.ask) / (LATE - EARLY)
    return Service(blocks, late.block, late.rest - blocks * late.block, max(0.0, early.ask - EARLY * growth), growth)


def resume_row(folder: Path, trials: int) -> None:
    found = resume_time(folder, trials)
    row(
        f"resume of a {trials:,}-trial run ({found.megabytes:.0f} MB) until the first new trial starts",
        "under 10 s",
        f"{found.asked:.1f} s ({found.cpu:.1f} s of processor time); models and tasks open after {found.opened:.1f} s",
    )


def fault_row() -> None:
    """Run the test, and quote what it prints."""
    command = [sys.executable, "-m", "pytest", "-m", "ray", "-s", "-q", "tests/optimizer/test_fault_run.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment())
    told = [line for line in done.stdout.splitlines() if re.search(r"trials in|lost their worker", line)]
    passed = "passed" if done.returncode == 0 else f"FAILED: {done.stdout[-500:]}"
    row("fault run: workers, nodes and drivers die", "every trial finished exactly once", "; ".join([passed, *told]))


def saturation_table(service: Service) -> None:
    """Print which part of their time workers wait for the driver, by their number and the candidates' length."""
    calls = {workers: seconds_per_event(workers) for workers in CREWS}
    told = ", ".join(f"{ms(cost)} at {workers:,}" for workers, cost in calls.items())
    print(f"\nRay's calls cost {told} workers per block; deciding on a block {ms(service.block)}.")
    print(f"\nShare of the time that workers wait, {TRIALS:,} trials (simulated):\n")
    print(f"| workers | {' | '.join(f'{name}, {t} s' for name in ('TPE', 'random') for t in LENGTHS)} |")
    print("| ---: |" + " ---: |" * 2 * len(LENGTHS))
    for workers in CREWS:
        tpe = with_calls(service, calls[workers])
        random = Service(tpe.blocks, tpe.block, tpe.trial, 0.0, 0.0)
        shares = [waiting(kind, workers, t) for kind in (tpe, random) for t in LENGTHS]
        print(f"| {workers:,} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    tpe = with_calls(service, calls[64])
    print(
        f"\nPer trial: {tpe.blocks} blocks of {ms(tpe.block)}, {ms(tpe.trial)} to write it down and give out the next,"
    )
    print(f"{ms(tpe.ask)} + {1e6 * tpe.growth:.0f} us x n for TPE's n-th ask.")


def with_calls(service: Service, seconds: float) -> Service:
    """The driver's time with that of Ray's calls, so many seconds per block."""
    return Service(service.blocks, service.block + seconds, service.trial, service.ask, service.growth)


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"


if __name__ == "__main__":
    main()
