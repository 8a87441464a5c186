"""What is written where vocabularies differ: tokenizer, configuration, chat template; the live model is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import write_model
from transformers import AutoModelForCausalLM

from mergesmith.errors import UserError
from mergesmith.merge_ops import (
    Checkpoint,
    LiveModel,
    ModelBank,
    VocabularyWarning,
    WeightsDigest,
    load_tokenizer,
    output_tokenizer,
    parse_recipe,
    write_merge,
)
from mergesmith.merge_ops.architectures.quiet_transformers import quiet_transformers
from mergesmith.merge_ops.recipes.chat_templates import NAMED

ADDED = ["<|im_start|>", "<|im_end|>"]
TIES = """
merge_method: ties
base_model: base
models:
  - {model: a, parameters: {weight: 0.5, density: 0.6}}
  - {model: b, parameters: {weight: 0.5, density: 0.3}}
"""
UNION = "tokenizer_source: union\n"
PADDED = "tokenizer: {source: union, pad_to_multiple_of: 16}\n"


def write_zoo(family: str = "llama") -> None:
    write_model("base", family, layers=2, vocab=12, tokens="abcdefgh")
    write_model("a", family, seed=1, layers=2, vocab=16, tokens="hgfedcbaxy", added=ADDED, eos_token_id=15)
    write_model("b", family, seed=2, layers=2, vocab=24, tokens="acegyz", added=["<|im_end|>"])


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_zoo()
    return tmp_path


def write(text: str, out: str = "out") -> ModelBank:
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    write_merge(recipe, bank, Path(out))
    return bank


def document(name: str, folder: str = "out") -> dict:
    return json.loads((Path(folder) / name).read_text())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "mixtral"])
@pytest.mark.parametrize("section", [UNION, PADDED, "tokenizer_source: a\n"], ids=["union", "padded", "a"])
def test_the_live_model_is_the_written_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, section: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_zoo(family)
    recipe = parse_recipe(TIES + section)
    bank, digest = ModelBank(recipe.references()), WeightsDigest()
    live = LiveModel(bank)
    live.load(recipe, digest=digest)
    assert write_merge(recipe, bank, Path("out")).digest == digest.hex
    with quiet_transformers():
        loaded: Any = AutoModelForCausalLM.from_pretrained("out", output_loading_info=True)
    again, info = loaded
    assert not info["missing_keys"] and not info["unexpected_keys"]
    state = again.eval().state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in live.model.state_dict().items())
    tokens = torch.tensor([load_tokenizer(Path("out"), "out")("abcx<|im_end|>y").input_ids])
    with torch.no_grad():
        assert torch.equal(live.model(tokens).logits, again(tokens).logits)
    assert again.config.vocab_size == {UNION: 17, PADDED: 32}.get(section, 16)


def test_candidates_of_several_vocabularies_in_one_live_model(zoo: Path) -> None:
    texts = [TIES + section for section in (UNION, "tokenizer_source: base\n", PADDED, UNION)]
    bank = ModelBank(("base", "a", "b"))
    live = LiveModel(bank)
    sizes, states = [], []
    for text in texts:
        live.load(parse_recipe(text))
        sizes.append(live.model.config.vocab_size)
        states.append({name: tensor.clone() for name, tensor in live.model.state_dict().items()})
    assert sizes == [17, 12, 32, 17]
    assert all(torch.equal(tensor, states[3][name]) for name, tensor in states[0].items())


def test_the_union_tokenizer_is_written(zoo: Path) -> None:
    bank = write(TIES + UNION)
    tokenizer = load_tokenizer(Path("out"), "out")
    ours = output_tokenizer(parse_recipe(TIES + UNION), bank)
    for text in ("abc", "xyz<|im_start|>a", "<s>a</s>"):
        assert tokenizer(text).input_ids == ours(text).input_ids
    assert tokenizer.added_tokens_decoder == ours.added_tokens_decoder
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == 16
    assert tokenizer.added_tokens_decoder[16].special
    assert (tokenizer.eos_token_id, tokenizer.chat_template) == (2, ours.chat_template)
    assert Checkpoint("./out").architecture.vocab_size == len(tokenizer) == 17
    assert str(Path.cwd()) not in Path("out/tokenizer_config.json").read_text()


def test_a_models_tokenizer_is_copied_byte_for_byte(zoo: Path) -> None:
    write(TIES + "tokenizer_source: a\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (Path("out") / name).read_bytes() == (Path("a") / name).read_bytes()


def test_token_ids_follow_a_models_vocabulary(zoo: Path) -> None:
    """The output's tokenizer is that of `a`, so it ends where `a` ends."""
    Path("base/generation_config.json").write_text('{"eos_token_id": [2, 7], "top_k": 7, "pad_token_id": 0}')
    Path("a/generation_config.json").write_text('{"eos_token_id": [2, 15], "top_k": 8}')
    write(TIES + "tokenizer_source: a\n")
    assert document("config.json")["eos_token_id"] == 15
    assert document("config.json")["vocab_size"] == 16
    assert document("generation_config.json") == {"eos_token_id": [2, 15], "top_k": 7, "pad_token_id": 0}


def test_token_ids_keep_their_tokens(zoo: Path) -> None:
    """Ids that the other model says nothing of are translated: 7 is d in base and 10 is d in a."""
    base = {"eos_token_id": [2, 7, 400], "forced_eos_token_id": 400, "top_k": 7}
    Path("base/generation_config.json").write_text(json.dumps(base))
    Path("a/generation_config.json").unlink()
    write(TIES + "tokenizer_source: a\n")
    expected = {"eos_token_id": [2, 8], "forced_eos_token_id": None, "top_k": 7}
    assert document("generation_config.json") == expected


def test_the_union_leaves_token_ids(zoo: Path) -> None:
    text = '{"eos_token_id": [2, 7], "top_k": 7}'
    Path("base/generation_config.json").write_text(text)
    write(TIES + UNION)
    assert Path("out/generation_config.json").read_text() == text
    keep = {k: v for k, v in document("config.json", "base").items() if k != "vocab_size"}
    assert keep == {k: v for k, v in document("config.json").items() if k != "vocab_size"}


def test_a_rule_adds_a_token(zoo: Path) -> None:
    rule = "{new: {source: {kind: model_token, model: base, token: a}}}"
    write(f"{TIES}tokenizer: {{source: base, tokens: {rule}}}\nchat_template: chatml\n")
    tokenizer = load_tokenizer(Path("out"), "out")
    assert tokenizer("anew").input_ids == [4, 12]
    assert tokenizer.chat_template == NAMED["chatml"]


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Bye"},
]
CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
)
ALPACA = "Be brief.\n\n### Instruction:\nHello\n\n### Response:\nHi</s>\n\n### Instruction:\nBye\n\n### Response:\n"


LLAMA3 = (
    "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
MISTRAL = "<s>[INST] Be brief.\n\nHello [/INST] Hi</s>[INST] Bye [/INST]"
EXAONE = "[|system|]Be brief.[|endofturn|]\n[|user|]Hello\n[|assistant|]Hi[|endofturn|]\n[|user|]Bye\n[|assistant|]"
TEMPLATES = {"chatml": CHATML, "alpaca": ALPACA, "llama3": LLAMA3, "mistral": MISTRAL, "exaone": EXAONE}


@pytest.mark.parametrize(("name", "expected"), TEMPLATES.items())
@pytest.mark.parametrize("section", ["", UNION], ids=["same", "union"])
def test_templates_by_name(zoo: Path, name: str, expected: str, section: str) -> None:
    text = TIES if section else TIES.replace("{model: a", "{model: c").replace("{model: b", "{model: d")
    for other in ("c", "d"):
        write_model(other, seed=5, layers=2, vocab=12, tokens="abcdefgh")
    write(f"{text}{section}chat_template: {name}\n")
    tokenizer = load_tokenizer(Path("out"), "out")
    assert tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True) == expected


def test_a_template_of_no_such_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown chat template 'chatlm'\. Did you mean 'chatml'\?"):
        parse_recipe(f"{TIES}chat_template: chatlm\n")


def test_the_recipe_file_makes_the_same_model(zoo: Path) -> None:
    rules = "{x: {source: a, force: true}, new: {source: {kind: zero}}}"
    text = f"{TIES}tokenizer: {{source: union, tokens: {rules}, pad_to_multiple_of: 8}}\n"
    write(text)
    again = parse_recipe(Path("out/mergekit_config.yml").read_text())
    given = parse_recipe(text)
    absolute = {reference: str(Path(reference).resolve()) for reference in given.references()}
    assert again == given.renamed(absolute)
    write(given.renamed(absolute).to_yaml(), "out-absolute")
    write(again.to_yaml(), "again")
    for path in Path("out").iterdir():
        if path.name == "README.md":  # quotes the recipe as it was given
            assert (Path("again") / path.name).read_bytes() == (Path("out-absolute") / path.name).read_bytes()
            continue
        assert path.read_bytes() == (Path("again") / path.name).read_bytes(), path.name


def test_zeros_are_told_once(zoo: Path) -> None:
    recipe = parse_recipe("merge_method: passthrough\nmodels: [{model: base}]\ntokenizer_source: a")
    bank = ModelBank(recipe.references())
    with pytest.warns(VocabularyWarning) as told:
        for _ in range(2):
            LiveModel(bank).load(recipe)
    assert len(told) == 1
