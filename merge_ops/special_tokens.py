"""Token ids in a model's configuration files follow the output's vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .bank import ModelBank
from .vocabulary import OutputVocabulary, model_vocabulary

SUFFIX = "token_id"


def follow_vocabulary(
    document: Mapping[str, Any], model: str, file: str, vocabulary: OutputVocabulary, bank: ModelBank
) -> dict[str, Any]:
    """A model's configuration file with the ids of tokens as they are in the output.

    Where the output's tokenizer starts from another model, what that model's `file` says counts. Else an id keeps its
    token: it becomes the token's id in the output, and null, or one less in a list, where the output lacks the token.
    """
    followed = dict(document)
    own = _file_of(vocabulary.origin, file, bank) if vocabulary.origin != model else {}
    named = {key: value for key, value in own.items() if key.endswith(SUFFIX)}
    tokens = {i: token for token, i in model_vocabulary(model, bank).items()}
    ids = dict(zip(vocabulary.tokens, vocabulary.ids.tolist(), strict=True))
    for key, value in document.items():
        if key.endswith(SUFFIX) and value is not None:
            followed[key] = _translated(value, lambda i: ids.get(tokens.get(i, "")))
    return {**followed, **named}


def _translated(value: Any, translate: Callable[[int], int | None]) -> Any:
    if not isinstance(value, list):
        return translate(value) if isinstance(value, int) else value
    return [i for i in map(translate, value) if i is not None] or None


def _file_of(model: str, file: str, bank: ModelBank) -> dict[str, Any]:
    path: Path = bank[model].folder / file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
