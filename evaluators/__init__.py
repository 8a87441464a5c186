"""From a live model to per-item scores: lm-eval tasks and Python objectives, split, blocked and scored.

Importing this package imports neither lm-eval nor torch; `Suite.load` does.
"""

from .aggregate import entry_score, entry_value, join
from .config import PARTS, ChatConfig, Part, SplitConfig, TaskConfig
from .official import official_scores
from .records import Block, BlockScores, Entry, ItemScores, Leaf, Score, Scores, ScoringError
from .suite import Suite

__all__ = [
    "PARTS",
    "Block",
    "BlockScores",
    "ChatConfig",
    "Entry",
    "ItemScores",
    "Leaf",
    "Part",
    "Score",
    "Scores",
    "ScoringError",
    "SplitConfig",
    "Suite",
    "TaskConfig",
    "entry_score",
    "entry_value",
    "join",
    "official_scores",
]
