"""CPU seconds until a command says something: the first fault, the first candidate, `import mergesmith`.

    python benchmarks/start_up.py [--repeat 3]

Each figure is the least of several fresh processes, user and system time together, since wall times depend on what else
the machine does. The first candidate is the base model of a small search on the CPU: its line in trials.jsonl.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from mergesmith.optimizer.demo import make_demo
from mergesmith.optimizer.demo.zoo import DemoSize

MAIN = (sys.executable, "-m", "mergesmith")
POLL_S = 0.02
SIZE = DemoSize(items=100, train_words=2000, hidden=64, layers=2, base_steps=2, tune_steps=(1, 1, 1))


def least(command: tuple[str, ...], folder: Path, repeat: int, *, code: int) -> float:
    """The least CPU seconds of a command that ends with `code`."""
    found = []
    for _ in range(repeat):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == code, done.stderr
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def first_candidate(search: Path) -> float:
    """The CPU seconds of a search until its first trial is on disk."""
    process = subprocess.Popen((*MAIN, "search", search.name), cwd=search.parent, stdout=subprocess.DEVNULL)
    trials = search.parent / yaml.safe_load(search.read_text())["output"] / "trials.jsonl"
    while not (trials.is_file() and trials.stat().st_size):
        assert process.poll() is None, "the search ended before its first trial"
        time.sleep(POLL_S)
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def changed(search: Path, name: str, **changes: object) -> str:
    """Write a search.yaml with changed keys beside another one; return its name."""
    document = {**yaml.safe_load(search.read_text()), **changes}
    (search.parent / name).write_text(yaml.safe_dump(document))
    return name


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        search = make_demo(folder / "demo", log=lambda line: None, size=SIZE)
        folder = search.parent
        typo, missing = (
            changed(search, "typo.yaml", tokeniser_source="x"),
            changed(search, "missing.yaml", models=["x"]),
        )
        (folder / "used").mkdir()
        (folder / "used" / "file").touch()
        used = changed(search, "used.yaml", output="used")
        (folder / "recipe.yaml").write_text("merge_method: lineal\nmodels: [{model: x}]\n")
        rows = {
            "import mergesmith": least((sys.executable, "-c", "import mergesmith"), folder, repeat, code=0),
            "--help": least((*MAIN, "--help"), folder, repeat, code=0),
            "search: an unknown key": least((*MAIN, "search", typo), folder, repeat, code=2),
            "search: a missing model": least((*MAIN, "search", missing), folder, repeat, code=2),
            "search: the output is in use": least((*MAIN, "search", used), folder, repeat, code=2),
            "merge: an unknown method": least((*MAIN, "merge", "recipe.yaml", "out"), folder, repeat, code=2),
            "search: the first candidate": first_candidate(search),
        }
    print("| until | CPU seconds |\n| --- | ---: |")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
