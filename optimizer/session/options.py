"""Permissions that are given on the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Permissions that a user can only give on the command line, not in search.yaml."""

    allow_code_execution: bool = False
