"""The space and its recipes: every point is a recipe, and the recipe gives the point back."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mergesmith.errors import UserError
from mergesmith.merge_ops import METHODS, Recipe, Rule, Setting, Source, parse_recipe
from mergesmith.search_spaces import (
    BASE,
    METHOD,
    UNIFORM,
    Choice,
    Float,
    MergeIngredients,
    OutsideSpaceError,
    Params,
    SearchSpace,
    SpaceConfig,
    baselines,
    left_out,
    parent_name,
)

LAYERS = 5
TENSORS = (
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.self_attn.{part}_proj.weight" for i in range(LAYERS) for part in "qkvo"),
    *(f"model.layers.{i}.mlp.{part}_proj.weight" for i in range(LAYERS) for part in ("gate", "up", "down")),
    *("model.norm.weight", "lm_head.weight"),
)
SUBJECT = MergeIngredients("./base", ("./a", "./b", "./c"), "bfloat16", seed=3, layers=LAYERS, tensors=TENSORS)
CONFIGS = {
    "defaults": {},
    "knots and filters": {"knots": 3, "filters": ["mlp", "self_attn"]},
    "fixed, log, choices, per model": {
        "methods": {
            "ties": {
                "density": {"range": [0.05, 1], "log": True},
                "models[./a].weight": 0.5,
                "normalize": {"choices": [True, False]},
            },
            "linear": {"weight": [0, 2]},
            "slerp": None,
        },
        "knots": 2,
    },
    "shared by all models": {
        "methods": {
            "ties": {"density": {"share": True}},
            "dare_ties": {"density": {"range": [0.2, 0.9], "share": True}, "weight": {"share": True, "knots": 2}},
            "breadcrumbs": {
                "gamma": {"share": True, "filters": ["mlp"]},
                "density": {"choices": [0.3, 0.6], "share": True},
            },
            "task_arithmetic": {"weight": {"share": True}},
        },
    },
    "knots and filters of methods and parameters": {
        "knots": 2,
        "filters": ["self_attn"],
        "methods": {
            "ties": {"density": {"knots": 1, "filters": []}, "weight": {"filters": ["mlp", "self_attn"]}},
            "task_arithmetic": {"knots": 3, "filters": ["mlp"], "models[./a].weight": {"knots": 1}},
            "slerp": {"t": {"range": [0.2, 0.8], "steps": 4}},
        },
    },
    "blocks of layers": {"steps": 3, "filters": ["mlp"], "methods": ["ties", "linear", "slerp"]},
    "a block per layer, and one for all": {
        "methods": {"ties": {"steps": LAYERS, "density": {"steps": 1}}, "task_arithmetic": {"weight": {"steps": 2}}}
    },
    "some of the models": {
        "methods": {
            "slerp": {"models": ["./c", "./a"]},
            "nearswap": {"models": ["./base", "./b"]},
            "nuslerp": {"models": ["./b", "./a", "./c"]},
            "ties": {"models": ["./c", "./a"], "density": {"share": True}},
            "linear": {"models": ["./a", "./b"]},
            "task_arithmetic": {"models": ["./b"]},
        }
    },
    "regular expressions": {
        "filters": [r"re:[qk]_proj", r"re:layers\.[0-2]\..*mlp", "embed"],
        "knots": 2,
        "methods": ["ties", "slerp"],
    },
    "every method": {"methods": [name for name, method in METHODS.items() if method.max_inputs != 1]},
    "every method in detail": {
        "methods": [name for name, method in METHODS.items() if method.max_inputs != 1],
        "knots": 2,
        "filters": ["mlp"],
    },
}


def space(name: str = "defaults", subject: MergeIngredients = SUBJECT) -> SearchSpace:
    return SearchSpace(SpaceConfig.model_validate(CONFIGS[name]), subject)


def points(of: SearchSpace, count: int) -> list[Params]:
    rng = random.Random(0)
    found: list[Params] = []
    for method in of.methods:
        dimensions = of.dimensions(method)
        found += [{METHOD: method, **{d.name: draw(d, rng) for d in dimensions}} for _ in range(count)]
    return found


def draw(dimension: Choice | Float, rng: random.Random) -> float | bool | str:
    if isinstance(dimension, Choice):
        return rng.choice(dimension.options)
    return dimension.from_unit(rng.choice([0.0, 1.0, rng.random()]))


@pytest.mark.parametrize("name", CONFIGS)
def test_point_to_recipe_and_back(name: str) -> None:
    searched = space(name)
    for params in points(searched, 25):
        recipe = searched.recipe(params)
        assert searched.params(recipe) == params
        assert searched.params(parse_recipe(recipe.to_yaml())) == params  # floats survive YAML


@pytest.mark.parametrize("name", CONFIGS)
def test_dimension_names_are_distinct(name: str) -> None:
    searched = space(name)
    names = [d.name for method in searched.methods for d in searched.dimensions(method)]
    assert len(names) == len(set(names))


def test_dimension_counts() -> None:
    searched = space("knots and filters")
    assert {m: len(searched.dimensions(m)) for m in searched.methods} == {
        "linear": 3 * 3 * 3,  # models, filters and rest, knots
        "slerp": 1 + 3 * 3,  # the pair, then t
        "task_arithmetic": 27,
        "ties": 54,  # weight and density
        "dare_ties": 54,
    }


def test_recipes_spell_everything_out() -> None:
    searched = space()
    recipe = next(searched.recipe(p) for p in points(searched, 1) if p[METHOD] == "ties")
    assert recipe.base_model == "./base"
    assert set(recipe.parameters) == {"normalize", "rescale", "lambda"}
    assert (recipe.dtype, recipe.out_dtype, recipe.seed) == ("float32", "bfloat16", 3)


def test_linear_lists_the_base_at_weight_zero() -> None:
    searched = space()
    recipe = next(searched.recipe(p) for p in points(searched, 1) if p[METHOD] == "linear")
    assert [source.model for source in recipe.models] == ["./base", "./a", "./b", "./c"]
    assert recipe.models[0].parameters == {"weight": Setting.constant(0.0)}
    assert recipe.base_model == "./base"


def test_gradients_are_written_as_lists_in_order() -> None:
    searched = space("knots and filters")
    params: dict[str, float | bool | str] = {METHOD: "slerp", "slerp.models": "./a + ./b"}
    values = iter(range(9))
    for dimension in searched.dimensions("slerp")[1:]:
        params[dimension.name] = next(values) / 10
    setting = searched.recipe(params).parameters["t"]
    assert setting.rules == (
        Rule((0.0, 0.1, 0.2), "mlp"),
        Rule((0.3, 0.4, 0.5), "self_attn"),
        Rule((0.6, 0.7, 0.8)),
    )


def test_slerp_of_one_model_starts_from_the_base() -> None:
    searched = SearchSpace(
        SpaceConfig.model_validate({"methods": ["slerp"]}), MergeIngredients("./base", ("./a",), "float32")
    )
    assert [d.name for d in searched.dimensions("slerp")] == ["slerp.t"]
    assert searched.recipe({METHOD: "slerp", "slerp.t": 0.25}).base_model == "./base"


def test_exactly_one_scale_is_searched() -> None:
    names = [d.name for d in space().dimensions("ties")]
    assert not any("lambda" in name for name in names)
    normalized = SearchSpace(SpaceConfig.model_validate({"methods": {"ties": {"normalize": True}}}), SUBJECT)
    assert "ties.lambda" in [d.name for d in normalized.dimensions("ties")]


OUTSIDE = [
    (Recipe("passthrough", models=(Source("./a"),)), "is not searched"),
    (replace(dict(baselines(SUBJECT))[UNIFORM], dtype="bfloat16"), "dtypes"),
    (
        parse_recipe(
            "{merge_method: slerp, base_model: ./a, parameters: {t: 1.5}, models: [{model: ./a}, {model: ./b}]}"
        ),
        "1.5",
    ),
    (
        parse_recipe(
            "{merge_method: slerp, base_model: ./b, parameters: {t: 0.5}, models: [{model: ./a}, {model: ./b}]}"
        ),
        "order",
    ),
    (
        parse_recipe(
            "{merge_method: slerp, base_model: ./a, parameters: {t: [{filter: mlp, value: 1}, {value: 0}]},"
            " models: [{model: ./a}, {model: ./b}]}"
        ),
        "'mlp', which is not a filter",
    ),
    (
        parse_recipe(
            "{merge_method: slerp, base_model: ./a, parameters: {t: [0, 1]}, models: [{model: ./a}, {model: ./b}]}"
        ),
        "gradient of 2",
    ),
    (
        parse_recipe(
            "{merge_method: task_arithmetic, base_model: ./base, parameters: {weight: 1, lambda: 2},"
            " models: [{model: ./a}, {model: ./b}, {model: ./c}]}"
        ),
        "fixes it at 1.0",
    ),
    (
        parse_recipe(
            "{merge_method: dare_ties, base_model: ./base, parameters: {weight: 1, density: 0.5},"
            " models: [{model: ./a}, {model: ./b}, {model: ./c}]}"
        ),
        "seed 0",
    ),
]


@pytest.mark.parametrize(("recipe", "reason"), OUTSIDE, ids=[reason for _, reason in OUTSIDE])
def test_recipe_outside_says_why(recipe: Recipe, reason: str) -> None:
    with pytest.raises(OutsideSpaceError, match=reason.replace("(", r"\(")):
        space().params(recipe)


def test_constant_of_a_users_recipe_fills_all_knots() -> None:
    recipe = parse_recipe(
        "{merge_method: task_arithmetic, base_model: ./base, parameters: {weight: 0.5},"
        " models: [{model: ./a}, {model: ./b}, {model: ./c}]}"
    )
    params = space("knots and filters").params(recipe)
    assert set(params.values()) == {"task_arithmetic", 0.5}
    assert len(params) == 28


def test_baselines() -> None:
    named = dict(baselines(SUBJECT))
    assert list(named) == [
        "base",
        "parent ./a",
        "parent ./b",
        "parent ./c",
        "uniform",
        "task arithmetic, total weight 1",
        "task arithmetic, total weight 2",
        "slerp 0.5 of ./a and ./b",
        "slerp 0.5 of ./a and ./c",
        "slerp 0.5 of ./b and ./c",
    ]
    inside = [
        name
        for name, recipe in named.items()
        if name.startswith(("uniform", "task", "slerp")) and space().params(recipe)
    ]
    assert len(inside) == 6  # all but base and parents are points of the default space
    many = MergeIngredients("./base", tuple(f"./m{i}" for i in range(5)), "float32")
    assert not any(name.startswith("slerp") for name, _ in baselines(many))  # ten pairs would be too many
    assert "10 pairs" in left_out(many)[0]
    assert left_out(SUBJECT) == []
    assert left_out(many, ["uniform"]) == []


def test_baselines_can_be_chosen() -> None:
    every = [name for name, _ in baselines(SUBJECT)]
    always = [BASE, *(parent_name(model) for model in SUBJECT.models)]
    assert [name for name, _ in baselines(SUBJECT, "none")] == always
    assert [name for name, _ in baselines(SUBJECT, ["slerp", "task_arithmetic", "uniform"])] == every
    chosen = [name for name, _ in baselines(SUBJECT, ["task arithmetic, total weight 2", "uniform"])]
    assert chosen == [*always, "uniform", "task arithmetic, total weight 2"]
    many = replace(SUBJECT, models=tuple(f"m{i}" for i in range(5)))
    assert sum("slerp" in name for name, _ in baselines(many)) == 0
    assert sum("slerp" in name for name, _ in baselines(many, ["slerp"])) == 10  # every pair
    with pytest.raises(UserError, match=r"search\.baselines.*'unifrm'.*'uniform'"):
        list(baselines(SUBJECT, ["unifrm"]))
    assert len(list(baselines(MergeIngredients("./base", ("./a",), "float32")))) == 2


FAULTS = [
    ({"methods": ["tise"]}, "unknown merge method 'tise'. Did you mean 'ties'"),
    ({"methods": ["passthrough"]}, "passthrough takes one model"),
    ({"methods": {"ties": {"densty": 0.5}}}, "methods.ties.densty: unknown parameter 'densty'. Did you mean 'density'"),
    ({"methods": {"ties": {"density": [0.5, 1.5]}}}, r"must lie in \[0, 1\]"),
    ({"methods": {"ties": {"models[./z].weight": 0.5}}}, "unknown model './z'"),
    ({"methods": {"slerp": {"models[./a].t": 0.5}}}, "shared by all models"),
    ({"methods": {"ties": {"normalize": [0, 1]}}}, "is a switch"),
    ({"methods": {"nuslerp": {"models[./a].weight": 0.5}}}, "merges pairs; weight belongs to a place"),
    ({"methods": {"karcher": {"max_iter": [1, 9]}}}, "is a whole number"),
    ({"methods": {"karcher": {"max_iter": 2.5}}}, "is a whole number"),
]


@pytest.mark.parametrize(("document", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_faults(document: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SearchSpace(SpaceConfig.model_validate(document), SUBJECT)


BROKEN = [
    ({"methods": {"ties": {"density": [1, 0]}}}, "low < high"),
    ({"methods": {"ties": {"density": {"range": [0, 1], "log": True}}}}, "low > 0"),
    ({"methods": {"ties": {"density": {"range": [0, 1], "fixed": 1}}}}, "give a number"),
    ({"methods": []}, "at least one merge method"),
    ({"filters": ["mlp", "mlp"]}, "distinct"),
    ({"knots": 0}, "greater than or equal to 1"),
    ({"knots": 2, "steps": 2}, "exclude each other"),
    ({"methods": {"ties": {"density": {"knots": 2, "steps": 2}}}}, "exclude each other"),
    ({"methods": {"ties": {"density": {"fixed": 1, "knots": 2}}}}, "knots needs a range, but the parameter has fixed"),
    ({"methods": {"ties": {"density": {}}}}, "give a number"),
    ({"filters": ["re:(mlp"]}, r"'re:\(mlp' is no regular expression: missing \)"),
]


@pytest.mark.parametrize(("document", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_broken_sections(document: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpaceConfig.model_validate(document)


def test_methods_that_need_more_fine_tunes_than_there_are_say_so() -> None:
    one = MergeIngredients("./base", ("./a",), "bfloat16")
    for method in ("model_stock", "consensus", "nuslerp"):
        with pytest.raises(UserError, match=f"{method} needs at least 2 fine-tunes, but here are 1"):
            SearchSpace(SpaceConfig.model_validate({"methods": [method]}), one)


def test_methods_with_an_optional_base_work_on_task_vectors() -> None:
    searched = SearchSpace(SpaceConfig.model_validate({"methods": ["nuslerp", "multislerp"]}), SUBJECT)
    for point in points(searched, 1):
        assert searched.recipe(point).base_model == "./base"
    groups = searched.dimensions("nuslerp")[0]
    assert isinstance(groups, Choice)
    assert groups.options == ("./a + ./b", "./a + ./c", "./b + ./c")


def test_methods_without_weights_do_not_take_the_base_in() -> None:
    searched = SearchSpace(SpaceConfig.model_validate({"methods": ["karcher"]}), SUBJECT)
    recipe = searched.recipe({METHOD: "karcher"})
    assert recipe.base_model is None
    assert [source.model for source in recipe.models] == ["./a", "./b", "./c"]


def test_a_slope_over_depth_is_searched_when_asked_for() -> None:
    document = {"methods": {"ties": {"lines": [-0.5, 1.5]}, "task_arithmetic": {"lines": 0.5}}}
    searched = SearchSpace(SpaceConfig.model_validate(document), SUBJECT)
    assert "ties.lines" in [d.name for d in searched.dimensions("ties")]
    for point in points(searched, 2):
        recipe = searched.recipe(point)
        assert "lines" in recipe.parameters
        assert recipe.beyond_mergekit is not None
        assert searched.params(recipe) == point


def of(document: dict[str, Any], subject: MergeIngredients = SUBJECT) -> SearchSpace:
    return SearchSpace(SpaceConfig.model_validate(document), subject)


def test_the_law_holds_in_a_union_of_vocabularies() -> None:
    subject = replace(SUBJECT, tokenizer_source="union")
    searched = of({"methods": {"ties": {"models": ["./c", "./a"]}, "linear": {"models": ["./b"]}}}, subject)
    for params in points(searched, 10):
        recipe = searched.recipe(params)
        assert {"./a", "./b", "./c"} <= {source.model for source in recipe.models}  # its vocabulary is that of all
        assert searched.params(parse_recipe(recipe.to_yaml())) == params
    ties = next(searched.recipe(params) for params in points(searched, 1) if params[METHOD] == "ties")
    assert ties.models[1] == Source("./b", None, {"weight": Setting.constant(0.0)})


def test_a_shared_value_is_one_dimension_and_stands_above_the_models() -> None:
    searched = of({"methods": {"ties": {"density": {"share": True}}}})
    names = [d.name for d in searched.dimensions("ties")]
    assert names == ["ties.weight[./a]", "ties.weight[./b]", "ties.weight[./c]", "ties.density"]
    recipe = searched.recipe({METHOD: "ties", **dict.fromkeys(names, 0.5)})
    assert recipe.parameters["density"] == Setting.constant(0.5)
    assert all(source.parameters.keys() == {"weight"} for source in recipe.models)
    per_model = {"weight": Setting.constant(1.0), "density": Setting.constant(0.25)}
    models = tuple(replace(source, parameters=per_model) for source in recipe.models)
    equal = replace(recipe, models=models, parameters={**recipe.parameters, "density": Setting.constant(0.5)})
    assert searched.params(equal)["ties.density"] == 0.25  # of every model, whatever is above
    other = replace(models[0], parameters={**per_model, "density": Setting.constant(0.3)})
    with pytest.raises(OutsideSpaceError, match="density differs between models"):
        searched.params(replace(equal, models=(other, *models[1:])))


def test_a_shared_weight_is_searched_over_the_range_of_the_total() -> None:
    (weight,) = of({"methods": {"task_arithmetic": {"weight": {"share": True}}}}).dimensions("task_arithmetic")
    assert weight == Float("task_arithmetic.weight", 0.0, 1.0)  # 3 models of 1 have the total weight 3


def test_blocks_are_constant_and_mergekits_gradient_of_one_value_per_layer() -> None:
    searched = of({"steps": 2, "methods": {"slerp": {"models": ["./a", "./b"]}}})
    recipe = searched.recipe({METHOD: "slerp", "slerp.t.0": 0.2, "slerp.t.1": 0.7})
    setting = recipe.parameters["t"]
    assert setting.rules == (Rule((0.2, 0.2, 0.7, 0.7, 0.7)),)
    by_layer = [setting.at("x", layer / (LAYERS - 1)) for layer in range(LAYERS)]
    assert by_layer == pytest.approx([0.2, 0.2, 0.7, 0.7, 0.7], rel=1e-15)
    bent = replace(recipe, parameters={"t": Setting((Rule((0.2, 0.3, 0.7, 0.7, 0.7)),))})
    with pytest.raises(OutsideSpaceError, match="changes within a block"):
        searched.params(bent)
    with pytest.raises(OutsideSpaceError, match="gradient of 2 values, the space 2 blocks"):
        searched.params(replace(recipe, parameters={"t": Setting((Rule((0.2, 0.7)),))}))


def test_the_pair_of_a_slerp_can_be_fixed() -> None:
    searched = of({"methods": {"slerp": {"models": ["./c", "./a"]}}})
    assert [d.name for d in searched.dimensions("slerp")] == ["slerp.t"]
    recipe = searched.recipe({METHOD: "slerp", "slerp.t": 0.25})
    assert (recipe.base_model, [source.model for source in recipe.models]) == ("./c", ["./c", "./a"])


def test_models_may_be_left_out_with_a_weight_of_exactly_zero() -> None:
    (cube,) = of({"methods": ["task_arithmetic"]}).arms("task_arithmetic")
    at = dict.fromkeys(cube.axes, 0.5) | {"share of ./b": 0.01}
    params = cube.params(np.array(list(at.values())))
    assert params["task_arithmetic.weight[./b]"] == 0.0
    assert all(params[f"task_arithmetic.weight[./{name}]"] for name in "ac")


def test_a_regular_expression_is_written_as_substrings_that_mean_the_same() -> None:
    pattern = r"layers\.[02]\..*(q_proj|mlp)"
    searched = of({"filters": [f"re:{pattern}"], "methods": {"slerp": {"models": ["./a", "./b"]}}})
    dimensions = [d.name for d in searched.dimensions("slerp")]
    recipe = searched.recipe({METHOD: "slerp", dimensions[0]: 1.0, dimensions[1]: 0.0})
    for name in TENSORS:
        assert recipe.parameters["t"].at(name, 0.0) == float(re.search(pattern, name) is not None), name
    assert recipe.beyond_mergekit is None
    assert len(recipe.parameters["t"].rules) == 5  # two layers of q_proj and of mlp, and the rest
    first, *others = recipe.parameters["t"].rules
    torn = replace(recipe, parameters={"t": Setting((Rule((0.5,), first.filter), *others))})
    with pytest.raises(OutsideSpaceError, match="several values for the tensors"):
        searched.params(torn)


def test_an_average_of_one_model_includes_the_base() -> None:
    one = replace(SUBJECT, models=("./a",))
    searched = of({"methods": ["linear"]}, one)
    assert [d.name for d in searched.dimensions("linear")] == ["linear.weight[./base]", "linear.weight[./a]"]
    params = {METHOD: "linear", "linear.weight[./base]": 0.25, "linear.weight[./a]": 0.75}
    recipe = searched.recipe(params)
    assert [source.parameters["weight"] for source in recipe.models] == [Setting.constant(0.25), Setting.constant(0.75)]
    assert searched.params(recipe) == params
    with pytest.raises(UserError, match="karcher averages the fine-tunes, and here is only one"):
        of({"methods": ["karcher"]}, one)


MORE_FAULTS = [
    ({"methods": {"slerp": {"t": {"share": True}}}}, "methods.slerp.t: t is one value for all models without share"),
    ({"methods": {"linear": {"weight": {"share": True}}}}, "has no effect, as the weights are normalized"),
    ({"methods": {"ties": {"models[./a].density": {"share": True}}}}, "belongs to the parameter of all models"),
    (
        {"methods": {"ties": {"density": {"share": True}, "models[./a].density": 0.5}}},
        r"share: true leaves no value of one model, but models\[./a\].density is given",
    ),
    ({"steps": 6}, "methods.linear: steps must be at most the number of layers, 5, but is 6"),
    ({"methods": {"ties": {"lines": {"knots": 2}}}}, "lines is not searched by default: give a range"),
    ({"methods": {"ties": {"models": ["./z"]}}}, "methods.ties.models: unknown model './z'"),
    ({"methods": {"ties": {"models": ["./base", "./a"]}}}, "methods.ties.models: unknown model './base'"),
    ({"methods": {"ties": {"models": ["./a", "./a"]}}}, "names a model twice"),
    ({"methods": {"ties": {"models": ["./a"], "models[./b].weight": 0.5}}}, "unknown model './b'"),
    (
        {"filters": ["re:nothing"], "methods": ["ties"]},
        "'re:nothing' matches no tensor name; a name here is 'model.emb",
    ),
]


@pytest.mark.parametrize(("document", "message"), MORE_FAULTS, ids=[message for _, message in MORE_FAULTS])
def test_faults_of_divisions_and_models(document: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(document)


def test_doubts_have_numbers() -> None:
    assert of({}).warnings(100) == []
    crowded = of({"knots": 4, "filters": ["mlp"], "methods": ["ties"]})
    assert crowded.warnings(0) == [] and crowded.warnings(48) == []
    (warning,) = crowded.warnings(47)
    assert warning.startswith("space: ties has 48 dimensions, more than the 47 trials of the whole search")
    (warning,) = of({"knots": 32, "methods": {"slerp": {"models": ["./a", "./b"]}}}).warnings(100)
    assert warning == "space: slerp has 32 knots over 5 layers; more than 5 are redundant"
    (warning,) = of({"methods": {"ties": {"normalize": True}}}).warnings(100)
    assert "normalize: true, which leaves the scale to lambda; so lambda is searched in [0, 2]" in warning
    assert of({"methods": {"ties": {"normalize": True, "lambda": 1}}}).warnings(100) == []
