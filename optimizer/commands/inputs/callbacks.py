"""The function that a search calls after its trials."""

from __future__ import annotations

from collections.abc import Callable

from ...run_folder.run_folder import RunFolder
from ...run_folder.trial import Trial

OnTrial = Callable[[RunFolder, Trial], bool]
"""Called with the run after every finished trial except probes; returning True ends the search."""
