"""Entry point of `python -m mergesmith`."""

from mergesmith.optimizer.commands.cli import main

main()
