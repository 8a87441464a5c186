"""Steps to the lowest loss of the gold answers alone: `line` and `descent` of `auto`, then draws from the prior."""

from __future__ import annotations

from functools import partial

from .auto import AutoSampler

NAME = "descent"
make = partial(AutoSampler, stages=("line", "descent"), stop=False)
