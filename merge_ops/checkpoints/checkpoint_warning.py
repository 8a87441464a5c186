"""The warning about a checkpoint's content."""

from __future__ import annotations


class CheckpointWarning(UserWarning):
    """A checkpoint contains something that is ignored, or that may not be merged as expected."""
