"""Models whose vocabularies differ: the output's tokens, every row's source, statistics, ties, refusals."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import write_model

from mergesmith.errors import UserError
from mergesmith.merge_ops import ModelBank, Recipe, Residency, VocabularyWarning, materialize, parse_recipe, plan_merge
from mergesmith.merge_ops.vocabulary.embedding_rows import mean_row
from mergesmith.merge_ops.vocabulary.output_vocabulary import output_vocabulary

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
SIZES: dict[str, Any] = {"layers": 1, "hidden": 16, "intermediate_size": 24}
MODELS: dict[str, dict[str, Any]] = {
    "base": {"vocab": 12, "tokens": "abcdefgh"},
    "a": {"vocab": 16, "tokens": "hgfedcbaxy", "added": ["<|im_start|>", "<|im_end|>"]},
    "b": {"vocab": 24, "tokens": "acegyz", "added": ["<|im_end|>"]},  # 13 rows of padding
}
BOTH = "merge_method: linear\nmodels: [{model: base}, {model: a}, {model: b}]\nparameters: {weight: 1}\n"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, (name, arguments) in enumerate(MODELS.items()):
        write_model(tmp_path / name, seed=seed, **SIZES, **arguments)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def single(model: str, tokenizer: str, *, base: str = "") -> str:
    """Everything from one model, in the vocabulary of all three; the others count nothing."""
    weights = ", ".join(f"{{model: {m}, parameters: {{weight: {float(m == model)}}}}}" for m in MODELS)
    return f"merge_method: linear\nmodels: [{weights}]\n{base}\n{tokenizer}\n"


def merged(text: str) -> tuple[Recipe, ModelBank, dict[str, torch.Tensor]]:
    recipe = parse_recipe(text)
    bank = ModelBank(recipe.references())
    return recipe, bank, dict(materialize(recipe, bank))


def rows(text: str, name: str = EMBED) -> dict[str, torch.Tensor]:
    """The output's rows by token; those of no token under their ids."""
    recipe, bank, tensors = merged(text)
    vocabulary = output_vocabulary(recipe, bank)
    assert vocabulary is not None
    assert tensors[name].shape[0] == vocabulary.size
    found = {str(i): row for i, row in enumerate(tensors[name]) if i not in vocabulary.ids.tolist()}
    return {**found, **dict(zip(vocabulary.tokens, tensors[name][vocabulary.ids], strict=True))}


def stored(model: str, token: str, name: str = EMBED) -> torch.Tensor:
    order = [*SPECIALS, *str(MODELS[model]["tokens"]), *MODELS[model].get("added", ())]
    return ModelBank((model,)).tensor((model, name))[order.index(token)]


def test_the_union_keeps_the_first_ids_and_adds_in_a_fixed_order(zoo: Path) -> None:
    recipe = parse_recipe(BOTH + "tokenizer_source: union")
    vocabulary = output_vocabulary(recipe, ModelBank(recipe.references()))
    assert vocabulary is not None
    assert vocabulary.tokens == (*SPECIALS, *"abcdefgh", *"xyz", "<|im_start|>", "<|im_end|>")
    assert vocabulary.ids.tolist() == list(range(17))
    flags = vocabulary.tokenizer.added_tokens_decoder
    assert flags[16].special
    assert not flags[12].special
    assert vocabulary.tokenizer("ax<|im_end|>z").input_ids == [4, 12, 16, 14]


@pytest.mark.parametrize("name", [EMBED, HEAD])
def test_where_rows_come_from(zoo: Path, name: str) -> None:
    union = "tokenizer_source: union"
    found = rows(single("b", union, base="base_model: base"), name)
    assert torch.equal(found["c"], stored("b", "c", name))  # its own
    assert torch.equal(found["h"], stored("base", "h", name))  # several have it, the base among them
    assert torch.equal(found["x"], stored("a", "x", name))  # only one has it
    found = rows(single("base", union, base="base_model: base"), name)
    mean = (stored("a", "y", name) + stored("b", "y", name)) / 2
    assert torch.equal(found["y"], mean)  # the base lacks it
    assert torch.equal(found["<|im_start|>"], stored("a", "<|im_start|>", name))


def test_without_a_base_missing_rows_are_averages(zoo: Path) -> None:
    found = rows(single("b", "tokenizer_source: union"))
    torch.testing.assert_close(found["h"], (stored("base", "h") + stored("a", "h")) / 2, rtol=0, atol=0)


def test_other_tensors_are_as_ever(zoo: Path) -> None:
    _, bank, tensors = merged(single("a", "tokenizer_source: base"))
    for name, tensor in tensors.items():
        if name not in (EMBED, HEAD):
            assert torch.equal(tensor, bank.tensor(("a", name)))


def test_the_vocabulary_of_a_model(zoo: Path) -> None:
    recipe, bank, tensors = merged(single("base", "tokenizer_source: a"))
    vocabulary = output_vocabulary(recipe, bank)
    assert vocabulary is not None
    assert vocabulary.tokens == (*SPECIALS, *"hgfedcbaxy", "<|im_start|>", "<|im_end|>")
    assert not vocabulary.extended
    assert torch.equal(tensors[EMBED][4], stored("base", "h"))
    assert tensors[EMBED].shape == (16, 16)


def test_rows_of_padding_are_dropped(zoo: Path) -> None:
    recipe, bank, tensors = merged("merge_method: passthrough\nmodels: [{model: b}]\ntokenizer_source: base")
    assert tensors[EMBED].shape == tensors[HEAD].shape == (11, 16)
    assert torch.equal(tensors[EMBED], bank.tensor(("b", EMBED))[:11])
    assert plan_merge(recipe, bank).vocabulary is not None


def test_rules(zoo: Path) -> None:
    rules = """
        tokenizer:
          tokens:
            x: {source: {kind: zero}}
            y: {source: b}
            z: {source: {kind: model_token, model: a, token: c}}
            h: {source: {kind: model_token, model: b, token_id: 20}, force: true}
            new: {source: {kind: model_token, model: base, token_id: 5}}
        """
    found = rows(single("base", rules, base="base_model: base").replace("\n        ", "\n"))
    assert torch.equal(found["x"], torch.zeros(16))
    assert torch.equal(found["y"], stored("b", "y"))
    assert torch.equal(found["z"], stored("a", "c"))
    assert torch.equal(found["h"], ModelBank(("b",)).tensor(("b", EMBED))[20])
    assert torch.equal(found["new"], stored("base", "b"))
    found = rows(single("a", rules, base="base_model: base").replace("\n        ", "\n"))
    assert torch.equal(found["x"], stored("a", "x"))  # not forced: a keeps its own
    assert torch.equal(found["h"], ModelBank(("b",)).tensor(("b", EMBED))[20])


def test_padding_is_the_mean_of_all_rows(zoo: Path) -> None:
    found = rows(single("base", "tokenizer: {source: base, pad_to_multiple_of: 8}"))
    assert len(found) == 16
    tokens = torch.stack([row for token, row in found.items() if not token.isdigit()])
    for i in range(12, 16):
        torch.testing.assert_close(found[str(i)], tokens.double().mean(0).float())


@pytest.mark.parametrize("count", [1, 2, 3, 1023, 1024, 1025, 5000])
def test_means(count: int) -> None:
    values = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
    torch.testing.assert_close(mean_row(values), values.double().mean(0))
    assert mean_row(values[:, 0]).shape == ()


def test_tokens_of_no_model_are_zeros_and_told(zoo: Path) -> None:
    text = "merge_method: passthrough\nmodels: [{model: base}]\ntokenizer_source: a"
    with pytest.warns(
        VocabularyWarning, match=r"4 tokens are in none of the merged models.* zeros: 'x', 'y', '<\|im_sta"
    ):
        found = rows(text)
    assert torch.equal(found["x"], torch.zeros(16))


def test_statistics_are_those_of_the_rebuilt_tensors(zoo: Path) -> None:
    slerp = "merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: 0.4}\n"
    texts = [slerp + f"tokenizer_source: {source}" for source in ("union", "base", "a")]
    alone = [merged(text)[2] for text in texts]
    bank = ModelBank(("base", "a"))
    for text, tensors in (*zip(texts, alone, strict=True), (texts[0], alone[0])):
        for name, tensor in materialize(parse_recipe(text), bank):
            assert torch.equal(tensor, tensors[name]), name


def test_a_resident_bank_gives_the_same(zoo: Path) -> None:
    recipe, _, tensors = merged(BOTH + "tokenizer_source: union")
    bank = ModelBank(recipe.references(), residency=Residency(resident=True))
    for _ in range(2):
        for name, tensor in materialize(recipe, bank):
            assert torch.equal(tensor, tensors[name])


def test_dtypes_that_differ_are_promoted(zoo: Path) -> None:
    write_model("b", seed=2, dtype="bfloat16", **SIZES, **MODELS["b"])
    found = rows(single("b", "tokenizer_source: union", base="base_model: base"))
    assert found["x"].dtype == torch.float32
    assert torch.equal(found["x"], stored("a", "x"))


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_tied_embeddings_stay_tied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, (name, arguments) in enumerate(MODELS.items()):
        write_model(name, family, seed=seed, layers=1, **arguments)
    tensors = merged(BOTH + "tokenizer: {source: union, pad_to_multiple_of: 8}")[2]
    embeddings = [name for name in tensors if "embed" in name or "wte" in name]
    assert tensors[embeddings[0]].shape[0] == 24
    assert HEAD not in tensors


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{source: b}", "tokenizer.tokens.x.source: 'b' has no token 'x'; name one of its tokens, or a token_id"),
        ("{source: {kind: model_token, model: b, token: q}}", "'b' has no token 'q'"),
        ("{source: {kind: model_token, model: b, token_id: 24}}", "must be below 24, the rows of 'b', but is 24"),
        ("{source: c}", "'c' is not among the merged models; use one of 'base', 'a', 'b'"),
    ],
)
def test_rules_that_name_nothing(zoo: Path, rule: str, message: str) -> None:
    write_model("c", **SIZES)
    recipe = parse_recipe(BOTH + f"tokenizer: {{tokens: {{x: {rule}}}}}")
    with pytest.raises(UserError) as caught:
        plan_merge(recipe, ModelBank(recipe.references()))
    assert message in str(caught.value)


def test_other_dimensions_must_agree(zoo: Path) -> None:
    write_model("b", seed=2, layers=1, hidden=32, intermediate_size=24, vocab=24)
    recipe = parse_recipe(BOTH + "tokenizer_source: union")
    with pytest.raises(UserError, match=r"shapes: .*lm_head\.weight is \[12, 16\] in .base., \[16"):
        plan_merge(recipe, ModelBank(recipe.references()))


def test_a_tokenizer_is_needed(zoo: Path) -> None:
    Path("b/tokenizer_config.json").unlink()
    recipe = parse_recipe(BOTH + "tokenizer_source: union")
    with pytest.raises(UserError, match=r"model 'b': no tokenizer_config\.json"):
        plan_merge(recipe, ModelBank(recipe.references()))


def test_tokens_without_a_row_are_missing(zoo: Path) -> None:
    """A tokenizer may know more tokens than its model has rows, as when one was added and nothing resized."""
    write_model("b", seed=2, **SIZES, vocab=10, tokens="acegyz", added=["<|im_end|>"])
    found = rows(single("b", "tokenizer_source: union", base="base_model: base"))
    assert "z" in found
    assert torch.equal(found["<|im_end|>"], stored("a", "<|im_end|>"))


def test_gaps_in_a_tokenizers_ids_are_rows_of_no_token(zoo: Path) -> None:
    file = Path("b/tokenizer.json")
    content = json.loads(file.read_text())
    content["model"]["vocab"]["z"] = 20
    file.write_text(json.dumps(content))
    found = rows(single("b", "tokenizer_source: b", base="base_model: base"))
    assert torch.equal(found["z"], ModelBank(("b",)).tensor(("b", EMBED))[20])
    blank = [token for token in found if token.isdigit()]
    assert len(found) == 21
    assert len(blank) == 10
    tokens = torch.stack([row for token, row in found.items() if token not in blank])
    torch.testing.assert_close(found[blank[0]], tokens.double().mean(0).float())


def test_settings_of_added_tokens_that_differ_are_told(zoo: Path) -> None:
    file = Path("b/tokenizer.json")
    text = file.read_text()
    at = text.index("<|im_end|>")
    file.write_text(text[:at] + text[at:].replace('"lstrip": false', '"lstrip": true', 1))
    recipe = parse_recipe(BOTH + "tokenizer_source: union")
    with pytest.warns(VocabularyWarning, match=r"1 added tokens have different settings .*'<\|im_end\|>'"):
        plan_merge(recipe, ModelBank(recipe.references()))


def test_equal_vocabularies_are_not_touched(zoo: Path) -> None:
    write_model("b", seed=2, **SIZES, **MODELS["base"])
    text = "merge_method: linear\nmodels: [{model: base}, {model: b}]\nparameters: {weight: 1}\n"
    plain = merged(text)[2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, bank, tensors = merged(text + "tokenizer_source: union")
    assert all(torch.equal(tensor, plain[name]) for name, tensor in tensors.items())
    assert not bank.tensors._derived
