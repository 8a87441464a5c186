"""Candidates through the live model; started by merge_speed.py in a process of its own, with a JSON job.

Prints one line of JSON per method: seconds (and bytes) of

* `model`: building the live model and filling it for the first time,
* `first`: the first candidate of the method, which makes the bank's statistics (and compiles, where nothing is cached);
  `kept` is the memory that stays taken after it,
* `seconds`: each further candidate, with other numbers every time; `busy` is how many cores they kept busy,
* `copies`: copying every input of a candidate once into tensors of the same shapes, before and after the candidates,
* `peak`: the memory of one more candidate above the level before it,

and how far the first candidate lies from the base, to hold it against mergekit's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from candidate_profile import profiled  # noqa: E402
from merge_speed_cases import BASE, CASES, SOURCES, Case  # noqa: E402
from peak_memory import PeakMemory, give_back_freed_memory, memory  # noqa: E402

from mergesmith.merge_ops import LiveModel, ModelBank, Recipe, Residency, parse_recipe  # noqa: E402

COPY_RUNS = 3  # before the candidates and after them


class Candidates:
    """One method's candidates over the checkpoints of a folder: a new bank, and a live model that holds something else.

    Recipes have the dtypes of a search's: arithmetic in float32, weights in the models' own.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.bank = ModelBank([str(folder / name) for name in (BASE, *SOURCES)], residency=Residency(keep_deltas=True))
        self.live = LiveModel(self.bank)
        self.other = self._recipe(Case("passthrough", models=(SOURCES[-1],), based=False))
        self.live.load(self.other)
        self.count = 0

    def _recipe(self, case: Case) -> Recipe:
        return parse_recipe(case.recipe(self.folder, dtype="float32", out_dtype="bfloat16"))

    def next(self) -> Recipe:
        """The next candidate. Where a method has no numbers to change, the live model is filled otherwise before it."""
        if self.count and not self.case.has_numbers:
            self.live.load(self.other)
        self.count += 1
        return self._recipe(self.case.candidate(self.count - 1))

    def distance(self) -> float:
        """The L2 norm of what the live model's weights differ in from the base's."""
        square = 0.0
        for name, x in self.live.model.state_dict().items():
            square += float((x.float() - self._input(BASE, name).float()).square().sum())
        return square**0.5

    def copying(self) -> Callable[[], None]:
        """What copies each tensor of each input to one place per name."""
        pairs = [
            (torch.zeros_like(x), [self._input(model, name) for model in self.case.models])
            for name, x in self.live.model.state_dict().items()
        ]

        def copy() -> None:
            for out, inputs in pairs:
                for x in inputs:
                    out.copy_(x)

        return copy

    def _input(self, model: str, name: str) -> torch.Tensor:
        return self.bank.tensor((str(self.folder / model), name))


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(case: Case, job: dict[str, Any]) -> dict[str, Any]:
    """All figures of one method; candidates are repeated up to `repeats` times, not again after `patience` seconds."""
    start = time.perf_counter()
    candidates = Candidates(case, Path(job["folder"]))
    model = time.perf_counter() - start
    load = candidates.live.load
    recipe = candidates.next()
    with PeakMemory() as building:
        first = seconds_of(lambda: load(recipe))
    give_back_freed_memory()
    kept = memory()["RssAnon"] - building.before["RssAnon"]
    distance = candidates.distance()
    copy = candidates.copying()
    copies, seconds, processor = [seconds_of(copy) for _ in range(COPY_RUNS)], [], 0.0
    while not seconds or (len(seconds) < job["repeats"] and sum(seconds) < job["patience"]):
        recipe = candidates.next()
        used = time.process_time()
        seconds.append(seconds_of(lambda recipe=recipe: load(recipe)))
        processor += time.process_time() - used
    copies += [seconds_of(copy) for _ in range(COPY_RUNS)]
    recipe = candidates.next()
    with PeakMemory() as running:
        load(recipe)
    return {
        "name": case.method,
        "model": model,
        "first": first,
        "first_peak": building.extra["RssAnon"],
        "kept": kept,
        "seconds": seconds,
        "busy": processor / sum(seconds),
        "copies": copies,
        "peak": running.extra["RssAnon"],
        "distance": distance,
    }


def profile(case: Case, job: dict[str, Any]) -> dict[str, Any]:
    """Where the time of one candidate goes, after a few that are only timed."""
    candidates = Candidates(case, Path(job["folder"]))
    seconds = []
    for _ in range(1 + job["repeats"]):
        recipe = candidates.next()
        seconds.append(seconds_of(lambda recipe=recipe: candidates.live.load(recipe)))
        if sum(seconds[1:]) > job["patience"]:
            break
    recipe = candidates.next()
    return {"name": case.method, "seconds": seconds[1:], **profiled(lambda: candidates.live.load(recipe))}


def main() -> None:
    """Read the job, run its cases."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    run = profile if job["profile"] else measure
    for name in job["cases"]:
        print(json.dumps(run(CASES[name], job)), flush=True)


if __name__ == "__main__":
    main()
