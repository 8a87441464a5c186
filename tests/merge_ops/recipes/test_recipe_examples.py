"""The kinds of recipes that people write: each loads and merges, with the result that its text promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mergesmith.errors import UserError
from mergesmith.merge_ops import MergeError, ModelBank, RecipeWarning, materialize, parse_recipe, plan_merge

pytestmark = pytest.mark.filterwarnings("ignore::mergesmith.merge_ops.recipes.reader.RecipeWarning")

Tensors = dict[str, torch.Tensor]


def merge(text: str) -> Tensors:
    recipe = parse_recipe(text)
    return dict(materialize(recipe, ModelBank(recipe.references())))


@pytest.fixture
def models(in_llama: Path) -> dict[str, Tensors]:
    """The tensors of the tiny Llamas; they lie in the working directory."""
    bank = ModelBank(("base", "a", "b", "c"))
    return {ref: {name: bank[ref].tensor(name) for name in bank[ref].entries} for ref in bank.references}


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def layer(number: int, part: str = "self_attn.q_proj") -> str:
    return f"model.layers.{number}.{part}.weight"


def test_linear(models: dict[str, Tensors]) -> None:
    merged = merge(
        """
        models:
          - model: ./a
            parameters:
              weight: 1.0
          - model: b
            parameters:
              weight: 0.3
        merge_method: linear
        dtype: float16
        """
    )
    assert set(merged) == set(models["a"])
    for name, tensor in merged.items():
        assert tensor.dtype == torch.float16
        half = {ref: models[ref][name].half().float() for ref in ("a", "b")}
        assert torch.equal(tensor, (half["a"] * (1 / 1.3) + half["b"] * (0.3 / 1.3)).half())


def test_slerp_with_gradients_by_filter(models: dict[str, Tensors]) -> None:
    merged = merge(
        """
        slices:
          - sources:
              - model: base
                layer_range: [0, 4]
              - model: a
                layer_range: [0, 4]
        merge_method: slerp
        base_model: base
        parameters:
          t:
            - filter: self_attn
              value: [0, 0.5, 0.3, 0.7, 1]
            - filter: mlp
              value: [1, 0.5, 0.7, 0.3, 0]
            - value: 0.5 # fallback for the rest
        dtype: float32
        """
    )
    assert torch.equal(merged[layer(0)], models["base"][layer(0)])
    assert torch.equal(merged[layer(3)], models["a"][layer(3)])
    assert torch.equal(merged[layer(0, "mlp.up_proj")], models["a"][layer(0, "mlp.up_proj")])
    assert torch.equal(merged[layer(3, "mlp.up_proj")], models["base"][layer(3, "mlp.up_proj")])
    for name in ("model.norm.weight", "lm_head.weight", "model.embed_tokens.weight"):
        base, a = models["base"][name], models["a"][name]
        angle = torch.acos(torch.cosine_similarity(base.flatten().double(), a.flatten().double(), dim=0))
        halfway = (base + a) / (2 * torch.cos(angle / 2)).float()
        close(merged[name], halfway if torch.cos(angle) <= 0.9995 else (base + a) / 2)


def test_task_arithmetic_with_slices(models: dict[str, Tensors]) -> None:
    merged = merge(
        """
        base_model: base
        dtype: float32
        merge_method: task_arithmetic
        slices:
          - sources:
              - layer_range: [0, 2]
                model: base
              - layer_range: [0, 2]
                model: a
                parameters:
                  weight: 0.75
          - sources:
              - layer_range: [2, 4]
                model: base
              - layer_range: [2, 4]
                model: b
                parameters:
                  weight: -0.5
        """
    )
    base, a, b = models["base"], models["a"], models["b"]
    for name in (layer(1), "model.embed_tokens.weight"):
        close(merged[name], base[name] + 0.75 * (a[name] - base[name]))
    for name in (layer(2), layer(3), "model.norm.weight", "lm_head.weight"):
        close(merged[name], base[name] - 0.5 * (b[name] - base[name]))


def test_ties_with_gradients(models: dict[str, Tensors]) -> None:
    merged = merge(
        """
        models:
          - model: a
            parameters:
              density: [1, 0.7, 0.1] # density gradient
              weight: 1.0
          - model: b
            parameters:
              density: 0.5
              weight: [0, 0.3, 0.7, 1] # weight gradient
          - model: c
            parameters:
              density: 0.33
              weight:
                - filter: mlp
                  value: 0.5
                - value: 0
        merge_method: ties
        base_model: base
        parameters:
          normalize: true
          int8_mask: true
        dtype: float16
        """
    )
    # Depth 0: b has weight 0 and c none outside the mlp, and a is whole.
    close(merged[layer(0)].float(), models["a"][layer(0)].half().float())
    assert not torch.equal(merged[layer(0, "mlp.up_proj")], models["a"][layer(0, "mlp.up_proj")].half())


def test_dare_ties_with_int8_mask(models: dict[str, Tensors]) -> None:
    text = """
        models:
          - model: base
            # no parameters necessary for the base model
          - model: a
            parameters: {density: 0.53, weight: 0.4}
          - model: b
            parameters: {density: 0.53, weight: 0.3}
        merge_method: dare_ties
        base_model: base
        parameters: {int8_mask: true}
        dtype: bfloat16
        """
    with pytest.warns(RecipeWarning, match="int8_mask: has no effect"):
        merged = merge(text)
    unchanged = (merged[layer(1)] == models["base"][layer(1)].bfloat16()).float().mean()
    assert 0.47**2 - 0.05 < float(unchanged) < 0.47**2 + 0.15  # both dropped, or rounded away
    assert all(torch.equal(tensor, merged[name]) for name, tensor in merge(text).items())
    other = merge(text.rstrip() + "\n        mergesmith: {seed: 1}\n")
    assert not torch.equal(other[layer(1)], merged[layer(1)])


STACK = """
slices:
  - sources:
      - model: a
        layer_range: [0, 4]
  - sources:
      - model: b
        layer_range: [3, 4]
merge_method: passthrough
dtype: bfloat16
"""


def test_passthrough_stacks_layers(models: dict[str, Tensors]) -> None:
    merged = merge(STACK)
    assert len(merged) == len(models["a"]) + 9
    for number in range(4):
        assert torch.equal(merged[layer(number)], models["a"][layer(number)].bfloat16())
    assert torch.equal(merged[layer(4)], models["b"][layer(3)].bfloat16())
    assert torch.equal(merged["model.embed_tokens.weight"], models["a"]["model.embed_tokens.weight"].bfloat16())
    for name in ("model.norm.weight", "lm_head.weight"):
        assert torch.equal(merged[name], models["b"][name].bfloat16())


def test_layers_may_come_in_any_order(models: dict[str, Tensors]) -> None:
    parts = [f"- sources: [{{model: {m}, layer_range: [{i}, {i + 1}]}}]" for m, i in (("c", 2), ("a", 0), ("c", 2))]
    merged = merge("merge_method: passthrough\nslices:\n" + "\n".join(parts))
    for output, (model, number) in enumerate((("c", 2), ("a", 0), ("c", 2))):
        assert torch.equal(merged[layer(output)], models[model][layer(number)])
    assert layer(3) not in merged


def test_filters_see_source_layers_for_models_and_output_layers_for_shared_values(models: dict[str, Tensors]) -> None:
    text = """
        merge_method: task_arithmetic
        base_model: base
        slices:
          - sources:
              - {model: base, layer_range: [2, 3]}
              - model: a
                layer_range: [2, 3]
                parameters: {weight: [{filter: layers.2., value: 1}, {value: 0}]}
        parameters:
          lambda: [{filter: layers.0., value: 0.5}, {value: 0}]
        """
    merged, base, a = merge(text), models["base"][layer(2)], models["a"][layer(2)]
    close(merged[layer(0)], (base + a) / 2)
    name = "model.norm.weight"
    assert torch.equal(merged[name], models["base"][name])


def test_a_slice_has_its_own_base(models: dict[str, Tensors]) -> None:
    merged = merge(
        """
        merge_method: slerp
        slices:
          - base_model: base
            sources: [{model: a, layer_range: [0, 2]}, {model: base, layer_range: [0, 2]}]
          - base_model: a
            sources: [{model: a, layer_range: [2, 4]}, {model: base, layer_range: [2, 4]}]
        parameters: {t: 0}
        """
    )
    assert torch.equal(merged[layer(0)], models["base"][layer(0)])
    assert torch.equal(merged[layer(3)], models["a"][layer(3)])


def test_a_base_that_is_not_listed_is_the_last_input(in_llama: Path) -> None:
    recipe = parse_recipe("merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: 0.3}")
    task = plan_merge(recipe, ModelBank(recipe.references())).tasks[0]
    assert task.inputs == (("a", "lm_head.weight"), ("base", "lm_head.weight"))
    assert task.values.base == 1


def test_a_value_that_no_rule_gives_is_told(in_llama: Path) -> None:
    recipe = parse_recipe(
        "merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: {filter: mlp, value: 0.3}}"
    )
    with pytest.raises(UserError, match=r"no rule gives t for '.*': add a rule without filter"):
        plan_merge(recipe, ModelBank(recipe.references()))


def test_the_output_dtype_is_what_the_inputs_promote_to(models: dict[str, Tensors]) -> None:
    merged = merge("merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}")
    assert {tensor.dtype for tensor in merged.values()} == {torch.float32}


def test_an_error_in_the_middle_names_its_tensor(in_llama: Path) -> None:
    text = (
        "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: [1, -1]}}]"
    )
    with pytest.raises(MergeError, match=r"linear: tensor 'model\.layers\.3\.") as caught:
        merge(text)
    assert "must not sum to 0" in str(caught.value)
