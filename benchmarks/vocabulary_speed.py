"""How long it takes to merge vocabularies of 150,000 tokens.

    python benchmarks/vocabulary_speed.py [--tokens 150000] [--hidden 1024] [--dtype bfloat16]

Writes three small models with large vocabularies (nine tenths of the tokens are shared, in another order) into a
temporary folder, then prints the seconds for the union of their tokenizers, for the row sources, and per model for the
rebuilt embedding, beside those for reading the embedding alone.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mergesmith.merge_ops import ModelBank, parse_recipe
from mergesmith.merge_ops.vocabulary.embedding_rows import rebuilt_keys
from mergesmith.merge_ops.vocabulary.output_vocabulary import output_vocabulary

NAMES = ("base", "a", "b")
EMBEDDING = "model.embed_tokens.weight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(NAMES):
            write_model(Path(folder) / name, number, arguments.tokens, arguments.hidden, arguments.dtype)
        measure(Path(folder))


def write_model(folder: Path, number: int, tokens: int, hidden: int, dtype: str) -> None:
    """One tied Llama with one layer and a tokenizer of words, a tenth of them its own."""
    shared = [f"word{i}" for i in range(tokens * 9 // 10)]
    words = [*shared, *(f"own{number}x{i}" for i in range(tokens - len(shared) - 1))]
    random.Random(number).shuffle(words)
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<unk>", *words])}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>").save_pretrained(folder)
    sizes: dict[str, Any] = {"hidden_size": hidden, "intermediate_size": 64, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=tokens, num_attention_heads=8, tie_word_embeddings=True, **sizes)
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)


def measure(folder: Path) -> None:
    text = "merge_method: linear\nmodels: [{model: base}, {model: a}, {model: b}]\nparameters: {weight: 1}\n"
    recipe = parse_recipe(text + "tokenizer_source: union\n")
    bank = ModelBank(recipe.references(), roots=(folder,))
    vocabulary, seconds = timed(lambda: output_vocabulary(recipe, bank))
    print(f"{'union of the tokenizers':34s} {seconds:8.2f} s   {vocabulary.size} tokens")
    stored = tuple((name, EMBEDDING) for name in NAMES)
    keys, seconds = timed(lambda: rebuilt_keys(vocabulary, recipe, stored, bank, None))
    print(f"{'row sources of all models':34s} {seconds:8.2f} s")
    for (name, _), plain, key in zip(stored, stored, keys, strict=True):
        tensor, read = timed(lambda plain=plain: bank.tensor(plain).clone())
        _, seconds = timed(lambda key=key: bank.tensor(key))
        print(f"{f'{name}: embedding rebuilt':34s} {seconds:8.2f} s   {read:.2f} s to read {list(tensor.shape)} alone")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
