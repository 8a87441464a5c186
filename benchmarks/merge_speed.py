"""How long a candidate takes: mergekit and mergesmith on the same synthetic checkpoint, as markdown tables.

    python benchmarks/merge_speed.py --mergekit-python /path/to/python [--parameters 374M] [--threads 2] [--only ties]

Every row is measured in the run that prints it, unless `--cached` allows figures of earlier runs of the same settings.
mergekit is taken at its fastest (`merge_state_dicts`, inputs in memory, in its own environment), mergesmith through
`LiveModel.load`, each candidate with other numbers. Recipes have a search's dtypes: arithmetic in float32, weights in
bfloat16. mergekit is measured with that, and once more with arithmetic in bfloat16, which is faster and less exact.

A cell is a median. "copies" is the machine's limit: `out.copy_(x)` for each input of a candidate, over the whole
checkpoint, measured around that method's candidates. "bank" is what the first candidate takes and leaves in memory, the
live model being built already: statistics are made and, where nothing is cached on disk, code is compiled. Goals that
are missed are in bold. Progress goes to standard error. Linux only, for the memory column.

Threads that spin while they wait make figures worthless when other programs run. OMP_WAIT_POLICY=passive, which both
sides take over from the environment, then helps; figures to quote need a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch
from merge_speed_cases import CASES
from merge_speed_disk import disk_rows
from merge_speed_runs import Figures, Settings, machine
from merge_speed_tables import candidate_table, disk_table, profile_text, tiny_table
from synthetic_checkpoint import config_of, count_parameters, llama, write_family

SECTIONS = ("tiny", "disk", "profile")
DTYPES = ("float32", "bfloat16")  # of mergekit's arithmetic: the one that the recipes say, and its fastest
QUICK = {
    "parameters": 1_000_000,
    "disk_parameters": None,
    "repeats": 2,
    "mergekit_repeats": 1,
    "patience": 1.0,
    "tiny_layers": 10,
}


def main() -> None:
    """Write the checkpoints where they are missing, measure, print."""
    arguments = parse()
    work, only, settings = arguments.work, arguments.only, settings_of(arguments)
    print(f"checkpoints and figures in {work}", file=sys.stderr)
    if os.getloadavg()[0] > 0.5:
        print("WARNING: other programs are running; threads that wait for each other suffer most", file=sys.stderr)
    torch.set_num_threads(arguments.threads)
    figures = Figures(work / "figures.json", settings, arguments.cached)
    print(f"{machine(settings)}.", flush=True)
    if arguments.cached != "none":
        show(f"Figures of earlier runs were taken where there were any: {arguments.cached}.")
    methods = [name for name in CASES if name in only]
    if methods:
        folder, millions = sized(work, arguments.parameters)
        show(f"Base and sources of {millions} M parameters in bfloat16.")
        ours = figures.mergesmith(folder, methods)
        same, rounded = (figures.mergekit(folder, methods, d) if d in arguments.mergekit_dtypes else {} for d in DTYPES)
        show(candidate_table(same, rounded, ours))
    if "tiny" in only:
        layers = arguments.tiny_layers
        folder = shaped(work / f"tiny-{layers}", layers)
        mergekit, ours = figures.mergekit(folder, ["linear"], DTYPES[0]), figures.mergesmith(folder, ["linear"])
        from_disk = disk_rows(figures, folder, ["linear"], work)["linear"]
        show(tiny_table(9 * layers + 3, mergekit, ours, from_disk))
    if "disk" in only:
        folder, millions = sized(work, arguments.disk_parameters or arguments.parameters)
        show(f"Base and sources of {millions} M parameters in bfloat16, whole commands.")
        start_up = disk_rows(figures, shaped(work / "smallest", 1), ["linear"], work)["linear"]
        show(disk_table(disk_rows(figures, folder, arguments.disk_methods, work), start_up))
    if "profile" in only:
        folder, _ = sized(work, arguments.parameters)  # named by its parameters
        show(profile_text(folder.name, figures.profiles(folder, arguments.profile_methods)))
        tiny = shaped(work / f"tiny-{arguments.tiny_layers}", arguments.tiny_layers)
        show(profile_text(tiny.name, figures.profiles(tiny, ["linear"])))


def show(text: str) -> None:
    print(f"\n{text}", flush=True)


def sized(work: Path, parameters: int) -> tuple[Path, int]:
    """The folder of a base and its sources of about that size, and their millions of parameters."""
    config = config_of(parameters)
    exact = count_parameters(config)
    write_family(work / str(exact), config)
    return work / str(exact), round(exact / 1e6)


def shaped(folder: Path, layers: int) -> Path:
    """The same for a model of tiny tensors, nine in each layer."""
    write_family(folder, llama(16, intermediate=32, layers=layers, vocabulary=64))
    return folder


def settings_of(arguments: argparse.Namespace) -> Settings:
    return Settings(
        python=arguments.mergekit_python,
        threads=arguments.threads,
        repeats=arguments.repeats,
        mergekit_repeats=arguments.mergekit_repeats,
        patience=arguments.patience,
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = [*CASES, *SECTIONS]
    parser.add_argument("--mergekit-python", help="the interpreter that has mergekit; without it only our figures")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "merge-speed")
    parser.add_argument("--parameters", type=size, default="374M", help="such as 30M or 1.5B; the nearest is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=rows, metavar="ROW", help=" ".join(rows))
    parser.add_argument("--repeats", type=int, default=5, help="candidates per method")
    parser.add_argument("--mergekit-repeats", type=int, default=3)
    parser.add_argument("--mergekit-dtypes", nargs="+", choices=DTYPES, default=DTYPES, metavar="DTYPE")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds after which nothing is repeated")
    parser.add_argument("--tiny-layers", type=int, default=400, help="nine tensors each")
    parser.add_argument("--disk-parameters", type=size, help="another size for the commands from disk to disk")
    parser.add_argument("--disk-methods", nargs="+", choices=CASES, default=["linear", "ties"], metavar="METHOD")
    parser.add_argument("--profile-methods", nargs="+", choices=CASES, default=["ties"], metavar="METHOD")
    parser.add_argument("--cached", choices=("none", "mergekit", "all"), default="none", help="take earlier figures")
    parser.add_argument("--quick", action="store_true", help="a small model, few repeats, no `disk` unless asked")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK)
        rows.remove("disk")  # whose commands take their seconds to start, however small the model
    arguments.only = arguments.only or rows
    arguments.work = arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    return arguments


def size(text: str) -> int:
    """A number with K, M or B behind it."""
    unit = {"K": 1e3, "M": 1e6, "B": 1e9}.get(text[-1:].upper())
    return round(float(text[:-1]) * unit) if unit else int(text)


if __name__ == "__main__":
    main()
