"""The tokenizer files of a checkpoint folder: loading, copying and comparing them, and the chat template in them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mergesmith.errors import UserError, first_line

from ..architectures.quiet_transformers import quiet_transformers

CHAT_TEMPLATE, TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"
PROCESSOR_TEMPLATE, MORE_TEMPLATES = "chat_template.json", "additional_chat_templates"
# The names of the vocabulary files of all tokenizers in transformers, and of those that come with their code.
TOKENIZER_FILES = (
    *("tokenizer.json", TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model*", "spiece.model", "spm*.model", "sentencepiece*.model", "*.spm"),
    *("tekken.json", "*.tiktoken", "tiktoken.model"),
    *("vocab.json", "merges.txt", "vocab.txt", "vocab.bpe", "bpe.codes", "dict.txt", "prophetnet.tokenizer"),
    *("normalizer.json", "emoji.json", "byte_maps.json", "entity_vocab.json", "target_vocab.json"),
    *("word_shape.json", "word_pronunciation.json"),
    *(CHAT_TEMPLATE, PROCESSOR_TEMPLATE, f"{MORE_TEMPLATES}/*.jinja"),
)
# The files that map text to token ids, the most complete kind first.
VOCABULARY_FILES = (
    *(("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("vocab.txt",)),
    *(("tekken.json",), ("spiece.model",), ("sentencepiece.bpe.model",), ("qwen.tiktoken",), ("tiktoken.model",)),
)


def load_tokenizer(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a checkpoint folder with transformers.

    Raises:
        UserError: the folder has no tokenizer, or it cannot be loaded.
    """
    from transformers import AutoTokenizer  # takes half a second to import, and many merges do not need it

    if not (folder / TOKENIZER_CONFIG).is_file():
        raise UserError(f"model '{reference}': {_no_tokenizer(folder)}")
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds of errors, all of them about these files
        reason = _without_sentencepiece(folder) or first_line(error)
        raise UserError(f"model '{reference}': its tokenizer cannot be loaded: {reason}") from None


def _no_tokenizer(folder: Path) -> str:
    if (folder / "tekken.json").is_file():
        return (
            f"its only tokenizer is tekken.json in {folder}, which transformers cannot change; leave out "
            f"tokenizer_source and rules for tokens, or add the tokenizer.json and {TOKENIZER_CONFIG} of the same one"
        )
    return f"no {TOKENIZER_CONFIG} in {folder}; its tokenizer is needed"


def _without_sentencepiece(folder: Path) -> str | None:
    """Return the remedy if the folder's only tokenizer needs a missing package; transformers names another one."""
    if (folder / "tokenizer.json").is_file() or not (folder / "tokenizer.model").is_file():
        return None
    if find_spec("sentencepiece") is not None:
        return None
    return "tokenizer.model needs the package sentencepiece (pip install sentencepiece)"


def copy_tokenizer(folder: Path, target: Path) -> None:
    """Copy the tokenizer files of a checkpoint folder to another folder."""
    for path in sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds tokenizer files other than chat templates."""
    patterns = TOKENIZER_FILES[: TOKENIZER_FILES.index(CHAT_TEMPLATE)]
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


def chat_template_in(folder: Path) -> str | None:
    """Return the chat template of a checkpoint folder, from the template file or from tokenizer_config.json.

    Of several templates it is the one called `default`.
    """
    template_file, tokenizer_config = folder / CHAT_TEMPLATE, folder / TOKENIZER_CONFIG
    if template_file.is_file():
        return template_file.read_text(encoding="utf-8")
    if not tokenizer_config.is_file():
        return None
    template = json.loads(tokenizer_config.read_text(encoding="utf-8")).get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def set_chat_template(folder: Path, template: str) -> None:
    """Make `template` the only chat template of a folder: older programs, tools and processors read others first."""
    shutil.rmtree(folder / MORE_TEMPLATES, ignore_errors=True)
    (folder / PROCESSOR_TEMPLATE).unlink(missing_ok=True)
    path = folder / TOKENIZER_CONFIG
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if settings.pop("chat_template", None) is not None:
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")


def tokenizer_digest(folder: Path) -> str | None:
    """Return the SHA-256 of the files that turn text into token ids, or None if the folder has none."""
    return next((_sha256(map(_text_to_ids, paths)) for paths in _vocabulary_files(folder).values()), None)


def vocabulary_digests(folder: Path) -> Mapping[str, str]:
    """Return the SHA-256 of the mapping from ids to tokens, by kind of vocabulary file, best kind first."""
    return {kind: _sha256(map(_id_to_token, paths)) for kind, paths in _vocabulary_files(folder).items()}


def _vocabulary_files(folder: Path) -> dict[str, list[Path]]:
    kinds = {names[0]: [folder / name for name in names] for names in VOCABULARY_FILES}
    return {kind: paths for kind, paths in kinds.items() if all(path.is_file() for path in paths)}


def _sha256(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _text_to_ids(path: Path) -> bytes:
    """Return the part of a tokenizer file that maps text to ids, without truncation and padding settings."""
    content = _tokenizer_json(path)
    if content is None:
        return path.read_bytes()
    kept = {key: content.get(key) for key in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
    return json.dumps(kept, sort_keys=True).encode()


def _id_to_token(path: Path) -> bytes:
    """Return the token of each id in a tokenizer file, in a form that does not depend on the library version."""
    content = _tokenizer_json(path)
    if content is None:
        return path.read_bytes()
    model = content.get("model") or {}
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, list):  # unigram models list [token, score]
        vocabulary = {token: i for i, (token, _) in enumerate(vocabulary)}
    vocabulary = {**vocabulary, **{token["content"]: token["id"] for token in content.get("added_tokens") or ()}}
    return json.dumps(sorted(vocabulary.items())).encode()


def _tokenizer_json(path: Path) -> dict[str, Any] | None:
    if path.name != "tokenizer.json":
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None
