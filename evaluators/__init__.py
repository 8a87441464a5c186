"""Scores a model in memory on lm-eval tasks and Python objectives, item by item.

Items are split into a search, a select and a report part and scored in fixed blocks. Importing this package imports
neither lm-eval nor torch; `Suite.load` does.
"""

from .checks.report import ScoringReport
from .checks.suite_facts import LeafFacts, SuiteFacts, TokenizerDifference
from .config import PARTS, ChatConfig, EvaluationConfig, Limit, Part, ScoringConfig, SplitConfig, TaskConfig
from .inference.device_errors import is_device_lost, is_out_of_memory, release
from .records import FACTS, Block, BlockScores, ItemScores, ItemText, Leaf, Score, Scores, ScoringError, TaskEntry
from .scoring.aggregate import entry_score, entry_value, entry_values, join, resamples
from .scoring.scorers import ScoringPlan
from .simple_evaluate import score_checkpoint
from .suite import Suite
from .tasks.name_check import check_files, check_task_names

__all__ = [
    "FACTS",
    "PARTS",
    "Block",
    "BlockScores",
    "ChatConfig",
    "EvaluationConfig",
    "ItemScores",
    "ItemText",
    "Leaf",
    "LeafFacts",
    "Limit",
    "Part",
    "Score",
    "Scores",
    "ScoringConfig",
    "ScoringError",
    "ScoringPlan",
    "ScoringReport",
    "SplitConfig",
    "Suite",
    "SuiteFacts",
    "TaskConfig",
    "TaskEntry",
    "TokenizerDifference",
    "check_files",
    "check_task_names",
    "entry_score",
    "entry_value",
    "entry_values",
    "is_device_lost",
    "is_out_of_memory",
    "join",
    "release",
    "resamples",
    "score_checkpoint",
]
