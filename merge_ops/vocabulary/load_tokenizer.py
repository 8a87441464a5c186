"""The tokenizer of a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mergesmith.errors import UserError, first_line

from ..architectures.quiet_transformers import quiet_transformers


def load_tokenizer(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Any:
    """The folder's tokenizer, as transformers loads it.

    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    from transformers import AutoTokenizer  # half a second, of which many merges have no need

    if not (folder / "tokenizer_config.json").is_file():
        raise UserError(f"model '{reference}': no tokenizer_config.json in {folder}; its tokenizer is needed")
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds here, all of them about these files
        raise UserError(f"model '{reference}': its tokenizer cannot be loaded: {first_line(error)}") from None
