"""The space and its recipes: every point is a recipe, and the recipe gives the point back."""

from __future__ import annotations

import random
from dataclasses import replace

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

SUBJECT = MergeIngredients("./base", ("./a", "./b", "./c"), "bfloat16", seed=3)
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
    searched = SearchSpace(SpaceConfig(methods={"slerp": {}}), MergeIngredients("./base", ("./a",), "float32"))
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
