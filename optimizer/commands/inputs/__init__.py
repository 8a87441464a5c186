"""The inputs of commands: search.yaml with the command line's values, recipes, and the checks of both."""
