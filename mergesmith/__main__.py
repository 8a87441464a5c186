"""Runs `mergesmith` as `python -m mergesmith`."""

from mergesmith.optimizer.commands.cli import main

main()
