"""Runs `mergesmith` as `python -m mergesmith`."""

from mergesmith.optimizer.cli import main

main()
