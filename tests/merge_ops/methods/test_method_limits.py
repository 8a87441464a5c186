"""Limits in which a method's result is known without computing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_merge import BASE, A, B, merge, noise

from mergesmith.merge_ops import MergeError, ModelBank, Recipe, Setting, Source, materialize
from mergesmith.merge_ops.executors.reference import largest_mask
from mergesmith.merge_ops.methods import PlanError


def test_ties_with_agreeing_signs_is_the_weighted_mean_task_vector() -> None:
    delta = 0.1 + noise(3, 20, 30).abs()
    sign = torch.where(noise(4, 20, 30) > 0, 1.0, -1.0)
    a, b = BASE + sign * delta, BASE + sign * 2 * delta
    merged = merge("ties", [BASE, a, b], [{}, {"weight": 1.0}, {"weight": 3.0}], base=0, normalize=True)
    torch.testing.assert_close(merged, BASE + sign * delta * (1 + 3 * 2) / 4, rtol=1e-5, atol=1e-5)


def test_ties_normalized_with_one_model_gives_that_model_whatever_its_weight() -> None:
    for weight in (0.3, -0.3, 7.0):
        merged = merge("ties", [BASE, A], [{}, {"weight": weight}], base=0)
        torch.testing.assert_close(merged, A, rtol=1e-5, atol=1e-6)


def test_ties_drops_what_disagrees() -> None:
    base = torch.zeros(4)
    a, b = torch.tensor([1.0, -1.0, 2.0, 0.0]), torch.tensor([3.0, 2.0, -1.0, 0.0])
    merged = merge("ties", [base, a, b], [{}, {"weight": 1.0}, {"weight": 1.0}], base=0, normalize=False)
    assert merged.tolist() == [4.0, 2.0, 2.0, 0.0]


def test_a_sum_of_zero_elects_plus() -> None:
    base = torch.zeros(2)
    a, b = torch.tensor([1.0, -2.0]), torch.tensor([-1.0, 2.0])
    merged = merge("ties", [base, a, b], [{}, {"weight": 1.0}, {"weight": 1.0}], base=0, normalize=False)
    assert merged.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("other", [A, 5 * noise(9, 20, 30)], ids=["near", "far"])
@pytest.mark.parametrize("base", [0, 1])
def test_slerp_ends_are_the_inputs(other: torch.Tensor, base: int) -> None:
    inputs = [BASE, other] if base == 0 else [other, BASE]
    assert torch.equal(merge("slerp", inputs, [{}, {}], base=base, t=0.0), BASE)
    assert torch.equal(merge("slerp", inputs, [{}, {}], base=base, t=1.0), other)


def test_slerp_between_unit_vectors_stays_on_the_sphere() -> None:
    one, other = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    for t in (0.25, 0.5, 0.9):
        merged = merge("slerp", [one, other], [{}, {}], base=0, t=t)
        assert float(merged.norm()) == pytest.approx(1.0, rel=1e-6)
        assert float(merged[1]) == pytest.approx(np.sin(t * np.pi / 2), rel=1e-6)


def test_slerp_of_zero_vectors_is_zero() -> None:
    assert torch.equal(merge("slerp", [torch.zeros(5), torch.zeros(5)], [{}, {}], base=0, t=0.4), torch.zeros(5))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_dare_at_density_1_is_task_arithmetic(normalize: bool, scale: float) -> None:
    weights = [{}, {"weight": 0.6}, {"weight": -0.2}]
    shared = {"normalize": normalize, "lambda": scale}
    dare = merge("dare_linear", [BASE, A, B], [{**w, "density": 1.0} if w else w for w in weights], base=0, **shared)
    assert torch.equal(dare, merge("task_arithmetic", [BASE, A, B], weights, base=0, **shared))


def test_density_0_gives_the_base() -> None:
    for method in ("ties", "dare_linear", "dare_ties"):
        merged = merge(method, [BASE, A], [{}, {"weight": 0.6, "density": 0.0}], base=0)
        assert torch.equal(merged, BASE), method


@pytest.mark.parametrize("normalize", [True, False])
def test_linear_of_one_model_is_the_model(normalize: bool) -> None:
    merged = merge("linear", [A], [{"weight": 1.0}], normalize=normalize)
    assert torch.equal(merged, A)
    assert torch.equal(merge("linear", [A], [{"weight": 0.3}], normalize=True), A)


def test_linear_with_zero_weights_ignores_those_models_even_when_not_finite() -> None:
    broken = torch.full_like(A, float("nan"))
    assert torch.equal(merge("linear", [A, broken], [{"weight": 1.0}, {"weight": 0.0}]), A)


def test_negation_takes_the_task_away() -> None:
    merged = merge("task_arithmetic", [BASE, A], [{}, {"weight": -1.0}], base=0)
    torch.testing.assert_close(merged, BASE - (A - BASE), rtol=1e-6, atol=1e-6)
    forgotten = merge("task_arithmetic", [BASE, A], [{}, {"weight": 0.0}], base=0)
    assert torch.equal(forgotten, BASE)


def test_analogy_adds_a_difference_of_tasks() -> None:
    """c + (b - a), all relative to the base."""
    c = BASE + 0.2 * noise(5, 20, 30)
    weights = [{}, {"weight": -1.0}, {"weight": 1.0}, {"weight": 1.0}]
    merged = merge("task_arithmetic", [BASE, A, B, c], weights, base=0)
    torch.testing.assert_close(merged, c + B - A, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_passthrough_copies_bits(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -1e-30, 3e38, float("inf"), -float("inf"), 0.1], dtype=torch.float64).to(dtype)
    merged = merge("passthrough", [x], [{}]).to(dtype)
    assert torch.equal(merged.view(torch.uint8), x.view(torch.uint8))
    assert merged.data_ptr() != x.data_ptr()


def test_passthrough_scales() -> None:
    assert torch.equal(merge("passthrough", [A], [{"scale": 2.0}]), 2 * A)
    assert torch.equal(merge("passthrough", [A], [{"scale": 0.0}]), torch.zeros_like(A))


@pytest.mark.parametrize(
    ("density", "kept"),
    [(0.0, ()), (0.01, (0,)), (0.34, (0, 3)), (0.5, (0, 1, 3)), (0.67, (0, 1, 3, 4)), (0.99, (0, 1, 2, 3, 4))],
)
def test_magnitude_ties_go_to_low_indices(density: float, kept: tuple[int, ...]) -> None:
    delta = torch.tensor([-5.0, 2.0, 0.0, -5.0, 2.0, 0.0])
    assert largest_mask(delta, density).nonzero().flatten().tolist() == list(kept)


def test_the_magnitude_mask_has_the_shape_of_the_tensor() -> None:
    mask = largest_mask(noise(1, 3, 4, 5), 0.25)
    assert mask.shape == (3, 4, 5)
    assert int(mask.sum()) == 15


def test_weights_without_a_sum_are_refused_with_the_tensor_named(in_llama: Path) -> None:
    sources = tuple(Source(name, parameters={"weight": Setting.constant(w)}) for name, w in (("a", 0.5), ("b", -0.5)))
    recipe = Recipe("linear", models=sources)
    message = (
        r"linear: tensor 'lm_head\.weight': with normalize: true the weights must not sum to 0, but are \[0\.5, -0\.5\]"
    )
    with pytest.raises(MergeError, match=message):
        next(materialize(recipe, ModelBank(recipe.references())))


TWO = [{"weight": 0.5}, {"weight": 0.5}]


def test_nuslerp_of_equal_weights_is_slerp_at_one_half() -> None:
    one, other = noise(11, 20, 30), noise(12, 20, 30)  # far apart: slerp does not fall back to a straight line
    torch.testing.assert_close(
        merge("nuslerp", [one, other], TWO), merge("slerp", [one, other], [{}, {}], base=0, t=0.5)
    )


def test_nuslerp_of_task_vectors_adds_the_base() -> None:
    merged = merge("nuslerp", [BASE, A, B], [{}, *TWO], base=0)
    torch.testing.assert_close(merged, BASE + merge("nuslerp", [A - BASE, B - BASE], TWO), rtol=1e-5, atol=1e-6)


def test_nuslerp_row_by_row_is_nuslerp_of_each_row() -> None:
    one, other = noise(11, 4, 30), noise(12, 4, 30)
    rows = [merge("nuslerp", [x, y], TWO) for x, y in zip(one, other, strict=True)]
    torch.testing.assert_close(merge("nuslerp", [one, other], TWO, nuslerp_flatten=False), torch.stack(rows))
    columns = merge("nuslerp", [one.t(), other.t()], TWO, nuslerp_flatten=False, nuslerp_row_wise=True)
    torch.testing.assert_close(columns.t(), torch.stack(rows))


@pytest.mark.parametrize("method", ["karcher", "multislerp"])
def test_spherical_means_of_two_unit_vectors_are_slerp_at_one_half(method: str) -> None:
    one, other = (x / x.norm() for x in (noise(11, 50), noise(12, 50)))
    merged = merge(method, [one, other], [{}, {}] if method == "karcher" else TWO)
    torch.testing.assert_close(merged, merge("slerp", [one, other], [{}, {}], base=0, t=0.5), rtol=1e-5, atol=1e-6)


def test_karcher_keeps_the_mean_norm() -> None:
    inputs = [3.0 * noise(11, 50), noise(12, 50), 0.5 * noise(13, 50)]
    merged = merge("karcher", inputs, [{}, {}, {}], max_iter=50)
    assert float(merged.norm()) == pytest.approx(float(sum(x.norm() for x in inputs)) / 3, rel=1e-5)


def test_multislerp_of_unchanged_tensors_is_the_base_and_of_opposites_refused() -> None:
    three = [{"weight": 0.2}, {"weight": 0.3}, {"weight": 0.5}]
    assert torch.equal(merge("multislerp", [BASE, BASE, BASE, BASE], [{}, *three], base=0), BASE)
    x = noise(11, 50)
    with pytest.raises(PlanError, match="mean direction vanishes"):
        merge("multislerp", [x, x, -2 * x], [{"weight": 0.25}, {"weight": 0.25}, {"weight": 0.5}])


def test_model_stock_of_parallel_task_vectors_is_their_mean_and_of_orthogonal_ones_the_base() -> None:
    delta = 0.1 * noise(3, 20, 30)
    merged = merge("model_stock", [BASE, BASE + delta, BASE + 3 * delta], [{}, {}, {}], base=0)
    torch.testing.assert_close(merged, BASE + 2 * delta, rtol=1e-5, atol=1e-5)
    left, right = torch.zeros(2, 4), torch.zeros(2, 4)
    left[0, 0], right[0, 1] = 1.0, 2.0
    base = noise(5, 2, 4)
    torch.testing.assert_close(merge("model_stock", [base, base + left, base + right], [{}, {}, {}], base=0), base)


def test_breadcrumbs_without_gamma_is_ties_without_sign_election() -> None:
    numbers = [{}, {"weight": 0.6, "density": 0.4, "gamma": 0.0}]
    merged = merge("breadcrumbs", [BASE, A], numbers, base=0)
    torch.testing.assert_close(merged, merge("ties", [BASE, A], numbers, base=0, normalize=False))


def test_breadcrumbs_drops_both_ends() -> None:
    delta = torch.tensor([9.0, -1.0, 5.0, -7.0, 3.0])
    numbers = [{}, {"weight": 1.0, "density": 0.4, "gamma": 0.2}]
    merged = merge("breadcrumbs", [torch.zeros(5), delta], numbers, base=0)
    assert merged.tolist() == [0.0, 0.0, 5.0, -7.0, 0.0]
    full = [{}, {"weight": 1.0, "density": 0.8, "gamma": 0.9}]  # what does not fit is taken from the top
    assert merge("breadcrumbs", [torch.zeros(5), delta], full, base=0).tolist() == [0.0, -1.0, 5.0, -7.0, 3.0]


@pytest.mark.parametrize("density", [0.05, 0.15, 0.86, 0.95])
def test_della_refuses_shares_that_give_no_probability(density: float) -> None:
    with pytest.raises(PlanError, match=r"0 < density - epsilon and density \+ epsilon < 1 must hold"):
        merge("della", [BASE, A], [{}, {"weight": 1.0, "density": density}], base=0)


def test_della_with_epsilon_0_is_dare() -> None:
    shared = {"normalize": False}
    numbers = [{}, {"weight": 1.0, "density": 0.3, "epsilon": 0.0}]
    assert torch.equal(
        merge("della_linear", [BASE, A], numbers, base=0, **shared),
        merge("dare_linear", [BASE, A], numbers, base=0, **shared),
    )


def test_sce_of_one_model_is_the_model_and_of_nothing_the_base() -> None:
    torch.testing.assert_close(merge("sce", [BASE, A], [{}, {}], base=0), A, rtol=1e-5, atol=1e-6)
    assert torch.equal(merge("sce", [BASE, A, B], [{}, {}, {}], base=0, select_topk=0.0), BASE)


def test_ram_sums_what_one_model_moved_and_averages_what_several_did() -> None:
    a, b = torch.tensor([1.0, 2.0, 0.0, 1e-7]), torch.tensor([0.0, 4.0, 5.0, 0.0])
    inputs, none = [torch.zeros(4), a, b], [{}, {}, {}]
    assert merge("ram", inputs, none, base=0).tolist() == [1.0, 3.0, 5.0, 0.0]
    plus = merge("ramplus_tl", inputs, none, base=0, r=0.5, alpha=0.2)  # shared 1, unique 1 each: clamped to alpha
    torch.testing.assert_close(plus, torch.tensor([1.1, 3.0, 5.5, 0.0]))
    assert torch.equal(merge("ramplus_tl", inputs, none, base=0, r=0.0), merge("ram", inputs, none, base=0))


def test_nearswap_swaps_what_is_nearer_than_t() -> None:
    base, other = torch.zeros(3), torch.tensor([0.01, 0.1, -1.0])
    torch.testing.assert_close(
        merge("nearswap", [base, other], [{}, {}], base=0, t=0.1), torch.tensor([0.01, 0.1, -0.1])
    )
    assert torch.equal(merge("nearswap", [BASE, A], [{}, {}], base=0, t=0.0), BASE)


def test_arcee_fusion_takes_whole_elements() -> None:
    merged = merge("arcee_fusion", [BASE, A], [{}, {}], base=0)
    taken = merged != BASE
    assert 0 < int(taken.sum()) < taken.numel() // 2
    torch.testing.assert_close(merged[taken], A[taken])
    assert torch.equal(merge("arcee_fusion", [BASE, BASE], [{}, {}], base=0), BASE)
