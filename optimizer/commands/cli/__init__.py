"""The command line: its commands, their options, and what becomes of errors. `main` runs it."""

from .main import app, main

__all__ = ["app", "main"]
