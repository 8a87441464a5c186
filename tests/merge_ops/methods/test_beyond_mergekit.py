"""The methods that mergekit lacks: limits, reference values by plain numpy, and what their recipes say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_merge import BASE, A, B, merge, noise

from mergesmith.merge_ops import METHODS, ModelBank, Recipe, Residency, Rule, Setting, Source, materialize, parse_recipe
from mergesmith.merge_ops.methods import PlanError

C = BASE + 0.2 * noise(6, 20, 30)
NONE: list[dict[str, Any]] = [{}, {}, {}, {}]
SPECTRAL = ("iso_c", "tsv")
LOWER: dict[str, Any] = {"lambda": 0.7}
inside_layers = {"base": 0, "depth": 0.5}


def numpy_deltas(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [(x - BASE).double().numpy() for x in tensors]


def close(merged: torch.Tensor, delta: np.ndarray) -> None:
    torch.testing.assert_close(merged, (BASE.double() + torch.from_numpy(delta)).float(), rtol=1e-5, atol=1e-5)


def test_iso_c_flattens_the_spectrum() -> None:
    total = np.sum(numpy_deltas(A, B, C), axis=0)
    u, s, vt = np.linalg.svd(total, full_matrices=False)
    merged = merge("iso_c", [BASE, A, B, C], NONE, **inside_layers, **LOWER)
    close(merged, 0.7 * u @ np.diag(np.full_like(s, s.mean())) @ vt)


def test_iso_c_of_an_orthogonal_task_matrix_is_that_model() -> None:
    rotation = torch.linalg.qr(noise(7, 20, 20))[0]
    base = noise(8, 20, 20)
    torch.testing.assert_close(merge("iso_c", [base, base + rotation], [{}, {}], **inside_layers), base + rotation)


def test_iso_c_leaves_the_null_space_empty() -> None:
    delta = torch.outer(noise(1, 20), noise(2, 30))
    merged = merge("iso_c", [BASE, BASE + delta], [{}, {}], **inside_layers) - BASE
    # One of 20 singular values is not 0 (but for rounding of base + delta), so the mean is a twentieth.
    ours = torch.linalg.svdvals(merged.double())
    assert float(ours[0]) == pytest.approx(float(delta.norm()) / 20, rel=1e-2)


def test_tsv_is_the_whitened_concatenation() -> None:
    parts = [np.linalg.svd(delta, full_matrices=False) for delta in numpy_deltas(A, B, C)]
    rank = 20 // 3
    u = np.concatenate([u[:, :rank] for u, _, _ in parts], axis=1)
    s = np.concatenate([s[:rank] for _, s, _ in parts])
    vt = np.concatenate([vt[:rank] for _, _, vt in parts], axis=0)

    def polar(matrix: np.ndarray) -> np.ndarray:
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        return left @ right

    close(merge("tsv", [BASE, A, B, C], NONE, **inside_layers), polar(u) @ np.diag(s) @ polar(vt))


def test_tsv_of_one_model_is_the_model_and_of_a_twin_its_strongest_half() -> None:
    torch.testing.assert_close(merge("tsv", [BASE, A], NONE[:2], **inside_layers), A, rtol=1e-5, atol=1e-5)
    (delta,) = numpy_deltas(A)
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    close(merge("tsv", [BASE, A, A], NONE[:3], **inside_layers), u[:, :10] @ np.diag(s[:10]) @ vt[:10])


@pytest.mark.parametrize("method", SPECTRAL)
def test_outside_the_layers_and_for_vectors_the_task_vectors_are_averaged(method: str) -> None:
    expected = (A + B) / 2
    torch.testing.assert_close(merge(method, [BASE, A, B], NONE[:3], base=0), expected, rtol=1e-5, atol=1e-6)
    rows = merge(method, [BASE[0], A[0], B[0]], NONE[:3], **inside_layers)
    torch.testing.assert_close(rows, expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", SPECTRAL)
def test_thread_count_changes_no_bit_of_a_decomposition(method: str) -> None:
    inputs = [noise(1, 150, 200), noise(2, 150, 200), noise(3, 150, 200)]
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            results.append(merge(method, inputs, NONE[:3], **inside_layers))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_consensus_by_the_formula() -> None:
    deltas = numpy_deltas(A, B, C)
    total = np.sum(deltas, axis=0)
    needed = np.sum([np.abs(d) > 0.5 * np.abs(total - d) for d in deltas], axis=0)
    merged = merge("consensus", [BASE, A, B, C], NONE, base=0, threshold=0.5, agreement=2)
    close(merged, np.where(needed >= 2, total, 0.0))


def test_consensus_without_agreement_is_task_arithmetic() -> None:
    merged = merge("consensus", [BASE, A, B], NONE[:3], base=0, agreement=0)
    torch.testing.assert_close(merged, A + B - BASE, rtol=1e-5, atol=1e-5)
    with pytest.raises(PlanError, match="agreement must be at most the number of task vectors, 2, but is 3"):
        merge("consensus", [BASE, A, B], NONE[:3], base=0, agreement=3)


def test_localize_and_stitch_averages_overlaps() -> None:
    a, b = torch.tensor([5.0, 4.0, 1.0, 0.1]), torch.tensor([1.0, 6.0, -3.0, 0.1])
    half = [{}, {"density": 0.5}, {"density": 0.5}]
    merged = merge("localize_and_stitch", [torch.zeros(4), a, b], half, base=0)
    assert merged.tolist() == [5.0, 5.0, -3.0, 0.0]


def test_localize_and_stitch_of_everything_is_the_mean() -> None:
    merged = merge("localize_and_stitch", [BASE, A, B], [{}, {"density": 1.0}, {"density": 1.0}], base=0)
    torch.testing.assert_close(merged, (A + B) / 2, rtol=1e-5, atol=1e-6)


WITH_LINES = [method for method in METHODS.values() if method.parameter("lines")]


@pytest.mark.parametrize("method", WITH_LINES, ids=lambda method: method.name)
def test_lines_scales_the_merged_task_vector_by_depth(method: Any) -> None:
    numbers = [{}, *([{"weight": 0.6, "density": 0.5, "gamma": 0.05}] * 2)]
    for depth, factor in ((None, 1.0), (0.0, 1.0), (0.25, 1.5), (1.0, 3.0)):
        plain = merge(method.name, [BASE, A, B], numbers, base=0, depth=depth)
        scaled = merge(method.name, [BASE, A, B], numbers, base=0, depth=depth, lines=2.0)
        torch.testing.assert_close(scaled - BASE, factor * (plain - BASE), rtol=1e-4, atol=2e-6)


def test_lines_runs_over_the_layers_of_the_output(in_llama: Path) -> None:
    sources = (Source("a", parameters={"weight": Setting.constant(1.0)}),)
    recipe = Recipe("task_arithmetic", sources, base_model="base", parameters={"lines": Setting.constant(0.6)})
    bank = ModelBank(recipe.references())
    layers = bank["base"].architecture.num_layers
    for name, tensor in materialize(recipe, bank):
        delta = bank.tensor(("a", name)) - bank.tensor(("base", name))
        layer = int(name.split(".")[2]) if ".layers." in name else 0
        expected = bank.tensor(("base", name)) + delta * (1 + 0.6 * layer / (layers - 1))
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)


def test_decompositions_are_kept_for_a_search_and_change_no_bit(in_llama: Path) -> None:
    recipe = Recipe("tsv", tuple(Source(name) for name in "ab"), base_model="base")
    keeping, forgetting = (
        ModelBank(recipe.references(), residency=Residency(keep_deltas=True)),
        ModelBank(recipe.references()),
    )
    first = dict(materialize(recipe, keeping))
    for again in (materialize(recipe, keeping), materialize(recipe, forgetting)):
        assert all(torch.equal(tensor, first[name]) for name, tensor in again)


def test_recipes_say_what_mergekit_cannot_run() -> None:
    sources = (Source("a", parameters={"weight": Setting.constant(1.0)}),)
    plain = Recipe("task_arithmetic", sources, base_model="base", parameters={"lines": Setting.constant(0.0)})
    assert plain.beyond_mergekit is None
    sloped = Recipe("ties", sources, base_model="base", parameters={"lines": Setting((Rule((0.0, 0.5)),))})
    own = Recipe("iso_c", (Source("a"),), base_model="base")
    for recipe, reason in ((sloped, "mergekit has no parameter lines"), (own, "iso_c is not a method of mergekit")):
        assert reason in recipe.to_document()["mergesmith"]["mergekit"]
        again = parse_recipe(recipe.to_yaml())
        assert again == recipe
        assert again.to_yaml() == recipe.to_yaml()
    assert "mergekit" not in plain.to_document()["mergesmith"]
