"""Command-line settings that override search.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mergesmith.errors import UserError

from ...config import RunConfig


@dataclass(frozen=True)
class Overrides:
    """Command-line values for keys of search.yaml; None leaves the key as it is."""

    trials: int | None = None
    time_limit: float | None = None
    output: Path | None = None
    workers: int | None = None
    control: Literal["random"] | None = None

    def apply(self, config: RunConfig) -> RunConfig:
        """Return the configuration with these values.

        Raises:
            UserError: several workers are asked for without `pool: ray`.
        """
        search: dict[str, Any] = {}
        if self.trials is not None:
            search["trials"] = self.trials
        if self.time_limit is not None:
            search["time_limit"] = self.time_limit
        if self.control is not None:
            search["control"] = self.control
        update: dict[str, Any] = {"search": config.search.model_copy(update=search)}
        if self.output is not None:
            update["output"] = str(self.output.resolve())
        if self.workers is not None:
            if config.workers.pool == "local" and self.workers > 1:
                raise UserError("--workers: several workers need workers.pool: ray in search.yaml")
            update["workers"] = config.workers.model_copy(update={"count": self.workers})
        return config.model_copy(update=update)
