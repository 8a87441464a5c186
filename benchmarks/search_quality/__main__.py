"""The command line of the search-quality benchmark."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from mergesmith.evaluators import Part

from . import __doc__ as about
from .arms import ARMS, REPLAYED, run_arm
from .build import build
from .claims import claims
from .figures import named_recipes
from .problems import PROBLEMS as MADE
from .real.problem import RealProblem
from .records import Outcomes
from .replay import score_pool
from .report import summary, tables, write
from .truth import UNSEEN, Truth

CACHE = Path.home() / ".cache" / "mergesmith" / "search_quality"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "search-quality.md"
PROBLEMS = {**MADE, "real": RealProblem("real", "three LoRA adapters of SmolLM2-135M-Instruct")}
REPLAYED_SEEDS = 20  # a replay takes a second
REPLAYED_TRIALS = 200


def main() -> None:
    arguments = _arguments()
    outcomes = Outcomes(arguments.cache / "outcomes.jsonl")
    truths: dict[str, Truth] = {}
    for name in arguments.problems:
        try:
            search = build(PROBLEMS[name], arguments.cache, _log)
        except ModuleNotFoundError as error:
            raise SystemExit(str(error)) from error
        if arguments.command == "build":
            continue
        truths[name] = truth = Truth(search)
        if arguments.command == "figures":
            _print_figures(name, truth)
        if arguments.command == "run":
            _run(truth, outcomes, arguments)
        if arguments.command == "claims":
            score_pool(truth, arguments.pool, _log)
            _log(claims(truth, pool_size=arguments.pool, runs=arguments.runs, trials=arguments.trials, log=_log))
    if arguments.command == "report":
        text = tables(truths, outcomes)
        print(text)
        if arguments.write:
            write(PAGE, text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="search_quality", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["build", "figures", "run", "report", "claims"])
    parser.add_argument("--problems", type=_names, help="comma-separated; default all but real, for `claims` equal")
    parser.add_argument("--arms", type=_names, default=[*REPLAYED, *ARMS], help="comma-separated; default all")
    parser.add_argument("--seeds", type=int, default=3, help=f"searches per arm; replayed arms have {REPLAYED_SEEDS}")
    parser.add_argument(
        "--trials", type=int, default=100, help=f"proposals of a search; replayed arms have {REPLAYED_TRIALS}"
    )
    parser.add_argument("--pool", type=int, default=400, help="random candidates that replays draw from")
    parser.add_argument("--runs", type=int, default=200, help="simulated searches of `claims`, on `equal` by default")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where problems and results are kept")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/explanation/search-quality.md")
    arguments = parser.parse_args()
    arguments.problems = arguments.problems or (["equal"] if arguments.command == "claims" else list(MADE))
    for kind, known in (("problems", PROBLEMS), ("arms", {**REPLAYED, **ARMS})):
        unknown = [name for name in getattr(arguments, kind) if name not in known]
        if unknown:
            parser.error(f"--{kind}: '{unknown[0]}' is unknown; known are {', '.join(known)}")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    return arguments


def _names(text: str) -> list[str]:
    return text.split(",")


def _run(truth: Truth, outcomes: Outcomes, arguments: argparse.Namespace) -> None:
    for arm in arguments.arms:
        replayed = arm in REPLAYED
        if replayed:
            score_pool(truth, arguments.pool, _log)
        trials = min(REPLAYED_TRIALS, arguments.pool) if replayed else arguments.trials
        for seed in range(REPLAYED_SEEDS if replayed else arguments.seeds):
            if (truth.folder.name, arm, trials, seed) in outcomes.found:
                continue
            outcome = run_arm(truth, arm, trials=trials, seed=seed, pool_size=arguments.pool)
            outcomes.add(outcome)
            _log(summary(outcome))


def _print_figures(name: str, truth: Truth) -> None:
    parts: dict[str, tuple[Part, ...]] = {"unseen items": UNSEEN, "search items": ("search",)}
    for label, recipe in named_recipes(truth):
        values = [f"{truth.value(recipe, part):.3f} on {items}" for items, part in parts.items()]
        _log(f"{name}: {label}: {', '.join(values)}")
    seconds, items = truth.seconds_per_candidate(), truth.count("search")
    unseen = sum(truth.count(part) for part in UNSEEN)
    _log(f"{name}: {seconds:.2f} s per candidate on {items} search items; {unseen} unseen items")


def _log(message: str) -> None:
    print(message, flush=True)


if __name__ == "__main__":
    main()
