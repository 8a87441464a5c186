"""The samplers, one file each. Every file in this folder that declares one is registered.

A file declares `NAME`, which is its name, and `make(space, seed) -> Sampler`. Nothing else needs to be edited to add
one. A sampler is imported when it is made: search.yaml is checked without their libraries.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mergesmith.errors import UserError, unknown

from ...search_spaces import SearchSpace
from .sampler import Observation, Proposal, Sampler, Slopes, Stop, derived_seed

__all__ = ["SAMPLERS", "Observation", "Proposal", "Sampler", "Slopes", "Stop", "derived_seed", "make_sampler"]


def _names() -> Iterator[str]:
    folder = Path(__file__).parent
    for path in sorted((*folder.glob("*.py"), *folder.glob("*/__init__.py"))):
        name = path.parent.name if path.stem == "__init__" else path.stem
        if f'\nNAME = "{name}"\n' in path.read_text(encoding="utf-8"):
            yield name


SAMPLERS: tuple[str, ...] = tuple(sorted(_names()))


def make_sampler(
    name: str, space: SearchSpace, seed: int, *, stages: Sequence[str] | None = None, stop: bool = True
) -> Sampler:
    """Return a new sampler by its name; `stages` and `stop` are for `auto` alone.

    Raises:
        UserError: there is no such sampler, or it cannot search this space.
    """
    if name not in SAMPLERS:
        raise UserError(f"search.sampler: {unknown('sampler', name, SAMPLERS)}")
    if name == "auto" and (stages is not None or not stop):
        from .auto import STAGES, AutoSampler

        return AutoSampler(space, seed, stages=tuple(STAGES) if stages is None else stages, stop=stop)
    return importlib.import_module(f".{name}", __name__).make(space, seed)
