"""The command line of the search-quality benchmark."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from . import __doc__ as about
from .build import build
from .figures import named_recipes
from .problems import PROBLEMS
from .truth import Truth

CACHE = Path.home() / ".cache" / "mergesmith" / "search_quality"


def main() -> None:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["build", "figures", "run", "report"])
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--cache", type=Path, default=CACHE)
    arguments = parser.parse_args()
    for name in arguments.problems.split(","):
        search = build(PROBLEMS[name], arguments.cache, print)
        if arguments.command == "figures":
            truth = Truth(search)
            for label, recipe in named_recipes(truth):
                print(f"{name}: {label}: {truth.value(recipe):.3f} on unseen, {truth.value(recipe, ['search']):.3f} on search items", flush=True)
            print(f"{name}: {truth.seconds_per_candidate():.2f} s per candidate on {truth.count('search')} search items")


if __name__ == "__main__":
    main()
