"""The arms: what searches, as overrides of a problem's search.yaml. Add one by adding a line to `ARMS`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import yaml
from rich.console import Console

from mergesmith.optimizer.commands.inputs.overrides import Overrides
from mergesmith.optimizer.commands.search import run_search
from mergesmith.optimizer.config import RacingSection
from mergesmith.optimizer.session.options import Options

from .measure import measure
from .records import Outcome
from .replay import replay_random
from .truth import Truth

REFERENCE = "random"  # what all arms are compared with

# Arms that are replayed from the pool of random candidates -> their racing rule.
REPLAYED: dict[str, RacingSection] = {REFERENCE: RacingSection(rule="off"), "random-racing": RacingSection()}

# Arms that search -> overrides of search.yaml, merged into it section by section.
STAGES = ("line", "soup", "descent", "transfer")
ARMS: dict[str, dict[str, Any]] = {
    "auto": {"search": {"sampler": "auto"}},
    **{f"auto without {s}": {"search": {"sampler": "auto", "stages": [x for x in STAGES if x != s]}} for s in STAGES},
    "gp": {"search": {"sampler": "gp"}},
    "qmc": {"search": {"sampler": "qmc"}},
    "descent": {"search": {"sampler": "descent"}},
    "tpe": {"search": {"sampler": "tpe"}},
    "cmaes": {"search": {"sampler": "cmaes"}},
}


def run_arm(truth: Truth, arm: str, *, trials: int, seed: int, pool_size: int) -> Outcome:
    """Search, or replay, and measure.

    A run that was interrupted goes on; its time then counts from there.

    Raises:
        KeyError: there is no such arm.
    """
    if arm in REPLAYED:
        return replay_random(truth, pool_size=pool_size, trials=trials, seed=seed, racing=REPLAYED[arm], arm=arm)
    name = f"{arm.replace(' ', '_')}-{trials}-{seed}"
    document = yaml.safe_load((truth.folder / "search.yaml").read_text(encoding="utf-8"))
    document = merged(document, {"search": {"trials": trials, "seed": seed}, "output": f"./runs/{name}"})
    config = truth.folder / f"{name}.yaml"  # beside search.yaml: relative paths start there
    config.write_text(yaml.safe_dump(merged(document, ARMS[arm]), sort_keys=False), encoding="utf-8")
    start = time.perf_counter()
    run_search(config, resume=True, overrides=Overrides(), options=Options(), console=Console(quiet=True))
    seconds = time.perf_counter() - start
    return measure(truth.folder / "runs" / name, truth, arm=arm, seed=seed, seconds=seconds)


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the changes; sections are merged key by key, everything else is replaced."""
    found = dict(document)
    for key, value in changes.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found
