"""Models of the Llama 2 era, whose only tokenizer is `tokenizer.model`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import ModelBank, output_tokenizer, parse_recipe, write_merge
from mergesmith.merge_ops.checkpoints import tokenizer_files

SETTINGS = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TEXT = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}, {model: b}]\ntokenizer_source: union\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models a and b with the same `tokenizer.model` and no tokenizer.json."""
    spm: Any = pytest.importorskip("sentencepiece")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(f"the {a} {b} of merging models" for a in "abcdefgh" for b in ("quick", "slow", "old")))
    spm.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "tokenizer"), vocab_size=60, model_type="bpe", minloglevel=2
    )
    for seed, name in enumerate("ab"):
        write_model(tmp_path / name, layers=2, seed=seed, vocab=60, tokenizer=False)
        (tmp_path / name / "tokenizer.model").write_bytes((tmp_path / "tokenizer.model").read_bytes())
        (tmp_path / name / "tokenizer_config.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def test_tokenizer_model_alone_is_enough(folder: Path) -> None:
    recipe = parse_recipe(TEXT)
    bank = ModelBank(recipe.references(), roots=(folder,))
    tokens = output_tokenizer(recipe, bank)("the quick a")["input_ids"]
    assert tokens and all(0 < token < 60 for token in tokens)
    write_merge(recipe, bank, folder / "out", write_card=False)
    assert (folder / "out" / "tokenizer.model").is_file()


def test_without_sentencepiece_the_message_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError("`tiktoken` is required")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    monkeypatch.setattr(tokenizer_files, "find_spec", lambda _: None)
    recipe = parse_recipe(TEXT)
    with pytest.raises(UserError, match=r"model 'a': .* tokenizer.model needs the package sentencepiece"):
        output_tokenizer(recipe, ModelBank(recipe.references(), roots=(folder,)))
