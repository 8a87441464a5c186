"""The samplers, one file each. Every file in this folder is registered.

A file declares `NAME` and `make(space, seed) -> Sampler`. Nothing else needs to be edited to add one.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence

from mergesmith.errors import UserError, unknown

from ...search_spaces import SearchSpace
from .auto import STAGES, AutoSampler
from .sampler import Observation, Proposal, Sampler, Slopes, Stop, derived_seed

__all__ = ["SAMPLERS", "Observation", "Proposal", "Sampler", "Slopes", "Stop", "derived_seed", "make_sampler"]


def _discover() -> dict[str, Callable[[SearchSpace, int], Sampler]]:
    found: dict[str, Callable[[SearchSpace, int], Sampler]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        name = getattr(module, "NAME", None)
        if name in found:
            raise ValueError(f"two files in {__name__} declare the sampler '{name}'")
        if name is not None:
            found[name] = module.make
    return dict(sorted(found.items()))


SAMPLERS = _discover()


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
        return AutoSampler(space, seed, stages=tuple(STAGES) if stages is None else stages, stop=stop)
    return SAMPLERS[name](space, seed)
