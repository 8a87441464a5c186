"""Permissions that are given on the command line or in Python."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Permissions that a user can only give on the command line or in Python, not in search.yaml.

    Attributes:
        allow_code_execution: let tasks run code that a model wrote.
        trust_remote_code: let transformers run code that a checkpoint contains.
    """

    allow_code_execution: bool = False
    trust_remote_code: bool = False
