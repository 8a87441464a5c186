"""Admission of workers to a Ray pool: all must have the run's sources, tasks and library versions."""

from __future__ import annotations

from collections.abc import Mapping

from .ray_actor import WorkerFacts


class Admission:
    """The sources, tasks, library versions and kind of device that all workers must have in common.

    Sources, tasks and versions are the driver's; the kind of device is that of the first worker admitted.
    """

    def __init__(self) -> None:
        self._ingredients: Mapping[str, Mapping[str, str]] = {}
        self._made_with: Mapping[str, str | None] = {}

    def expect(self, ingredients: Mapping[str, Mapping[str, str]], versions: Mapping[str, str | None]) -> None:
        """Set the digests (kind -> name -> digest) and the library versions (name -> version) of the run."""
        self._ingredients, self._made_with = ingredients, versions

    def mismatches(self, facts: WorkerFacts) -> list[str]:
        """Return the names of everything in which a worker differs from the run."""
        differing = [
            f"{kind} '{name}'"
            for kind, digests in self._ingredients.items()
            for name, digest in digests.items()
            if facts.ingredients.get(kind, {}).get(name) != digest
        ]
        differing += [name for name, version in self._made_with.items() if facts.made_with.get(name) != version]
        return differing

    def admitted(self, facts: WorkerFacts) -> None:
        """Expect the kind of device of an admitted worker from all others."""
        self._made_with = facts.made_with
