"""What every merge method must do. A new method in merge_ops/methods/ is covered without an edit here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from mergesmith.errors import UserError
from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors.reference import execute
from mergesmith.merge_ops.methods import (
    METHODS,
    Base,
    Custom,
    MergeMethod,
    Parameter,
    ParameterValues,
    PlanError,
    Scope,
    get_method,
)
from mergesmith.merge_ops.methods.base.declaration import Statistics

SHAPES = ((7,), (1,), (12, 9), (3, 5, 4))
LARGE = (4, 301, 200)  # above the size from which torch splits work between threads
NAME = "model.layers.0.mlp.up_proj.weight"

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
every_random_method = pytest.mark.parametrize(
    "method", [m for m in METHODS.values() if m.random], ids=lambda method: method.name
)


class DeclaredStatistics:
    """Statistics straight from the tensors; asking for one that the method did not declare fails."""

    def __init__(self, method: MergeMethod, inputs: list[torch.Tensor], base: int | None) -> None:
        self.method, self.all = method, InputStatistics(lambda: inputs, base)

    def gram(self) -> np.ndarray:
        return self.declared("gram").gram()

    def delta_gram(self) -> np.ndarray:
        return self.declared("delta_gram").delta_gram()

    def vector_gram(self, dim: int, *, deltas: bool) -> np.ndarray:
        return self.declared("vector_gram").vector_gram(dim, deltas=deltas)

    def merged_delta(self, derive: Callable[[Sequence[torch.Tensor]], torch.Tensor]) -> torch.Tensor:
        return self.declared("merged_delta").merged_delta(derive)

    def declared(self, name: str) -> InputStatistics:
        assert name in self.method.statistics, f"{self.method.name} uses {name}() without declaring it"
        return self.all


def searched(parameter: Parameter) -> Any:
    """An ordinary value: inside the search range, else the default."""
    if parameter.search is None:
        return 0.5 if parameter.required else parameter.default
    return parameter.search.low + 0.45 * (parameter.search.high - parameter.search.low)


def values(method: MergeMethod, inputs: int, value: Callable[[Parameter], Any] = searched) -> ParameterValues:
    base = 0 if method.base is Base.REQUIRED else None
    return method.values(inputs, lambda parameter, _i: value(parameter), base=base, depth=0.5)


def count(method: MergeMethod) -> int:
    return min(method.max_inputs or 3, max(3, method.min_inputs))


def tensors(method: MergeMethod, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """A base and its neighbours, as fine-tunes are."""
    generator = torch.Generator().manual_seed(7)
    base = torch.randn(shape, generator=generator, dtype=torch.float64)
    others = [
        base + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count(method) - 1)
    ]
    return [x.to(dtype) for x in (base, *others)]


def merge(
    method: MergeMethod,
    inputs: list[torch.Tensor],
    *,
    value: Callable[[Parameter], Any] = searched,
    seed: int = 0,
    name: str = NAME,
) -> torch.Tensor:
    given = values(method, len(inputs), value)
    plan = method.plan(given, DeclaredStatistics(method, inputs, given.base))
    return execute(plan, inputs, base=given.base, seed=seed, name=name)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@every_method
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape(method: MergeMethod, shape: tuple[int, ...]) -> None:
    merged = merge(method, tensors(method, shape))
    assert merged.shape == shape
    assert merged.dtype == torch.float32
    assert bool(merged.isfinite().all())


@every_method
@pytest.mark.parametrize("shape", [(), (0,), (0, 4)], ids=str)
def test_scalars_and_empty_tensors(method: MergeMethod, shape: tuple[int, ...]) -> None:
    assert merge(method, tensors(method, shape)).shape == shape


@every_method
def test_thread_count_changes_no_bit(method: MergeMethod, threads: Callable[[int], None]) -> None:
    inputs = tensors(method, LARGE)
    results = []
    for number in (1, 2, 4):
        threads(number)
        results.append(merge(method, inputs))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_only_the_values_count_not_their_dtype(method: MergeMethod, dtype: torch.dtype) -> None:
    halves = tensors(method, (12, 9), dtype)
    assert torch.equal(merge(method, halves), merge(method, [x.float() for x in halves]))


@every_method
def test_memory_layout_does_not_matter(method: MergeMethod) -> None:
    inputs = tensors(method, (12, 9))
    transposed = [x.t().contiguous().t() for x in inputs]
    assert torch.equal(merge(method, inputs), merge(method, transposed))


@every_method
def test_float64_stays_float64(method: MergeMethod) -> None:
    inputs = tensors(method, (12, 9), torch.float64)
    merged = merge(method, inputs)
    assert merged.dtype == torch.float64
    if not method.random:
        difference = (merged - merge(method, [x.float() for x in inputs])).abs()
        assert 0 <= float(difference.max()) < 1e-4
    one_double = merge(method, [inputs[0], *(x.float() for x in inputs[1:])])
    assert one_double.dtype == torch.float64


@every_method
def test_equal_inputs_come_back(method: MergeMethod) -> None:
    x = tensors(method, (12, 9))[0]
    merged = merge(method, [x.clone() for _ in range(count(method))])
    torch.testing.assert_close(merged, x, rtol=1e-6, atol=1e-6)


@every_method
def test_inputs_are_left_alone(method: MergeMethod) -> None:
    inputs = tensors(method, (12, 9))
    before = [x.clone() for x in inputs]
    merged = merge(method, inputs)
    merged.add_(1)  # nor may the result share memory with them
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))


@every_method
def test_repeating_gives_the_same_bits(method: MergeMethod) -> None:
    inputs = tensors(method, LARGE)
    assert torch.equal(merge(method, inputs), merge(method, inputs))


@every_method
def test_the_seed_acts_where_declared_and_nowhere_else(method: MergeMethod) -> None:
    inputs = tensors(method, (30, 40))
    changes = not torch.equal(merge(method, inputs, seed=1), merge(method, inputs, seed=2))
    assert changes == method.random


@every_random_method
def test_masks_depend_on_the_tensor_and_the_position(method: MergeMethod) -> None:
    inputs = tensors(method, (30, 40))
    first = merge(method, inputs, seed=1)
    assert not torch.equal(first, merge(method, inputs, seed=1, name=NAME.replace("0", "1")))
    # The weights are equal, so without masks of their own the order would matter by rounding only.
    swapped = merge(method, [inputs[0], inputs[2], inputs[1]], seed=1)
    assert float((first - swapped).abs().max()) > 1e-2


@every_random_method
def test_no_global_generator_is_used(method: MergeMethod) -> None:
    inputs = tensors(method, (30, 40))
    state = torch.get_rng_state()
    merge(method, inputs)
    assert torch.equal(torch.get_rng_state(), state)


@every_method
@pytest.mark.parametrize("end", ["low", "high"])
def test_the_ends_of_the_search_ranges(method: MergeMethod, end: str) -> None:
    def at_the_end(parameter: Parameter) -> Any:
        return getattr(parameter.search, end) if parameter.search else searched(parameter)

    try:
        merged = merge(method, tensors(method, (12, 9)), value=at_the_end)
    except PlanError as error:
        assert "must" in str(error)  # refused with the law, not computed to NaN
    else:
        assert bool(merged.isfinite().all())


@every_method
def test_the_fewest_inputs(method: MergeMethod) -> None:
    inputs = tensors(method, (12, 9))[: method.min_inputs]
    merged = merge(method, inputs)
    if method.base is Base.REQUIRED and len(inputs) == 1:
        assert torch.equal(merged, inputs[0])


@every_method
def test_the_declaration_is_sane(method: MergeMethod) -> None:
    assert METHODS[method.name] is get_method(method.name) is method
    assert method.summary.endswith(".")
    assert any(mark in method.paper for mark in ("arXiv:", "doi:", "https://"))
    assert 1 <= method.min_inputs <= (method.max_inputs or method.min_inputs)
    assert set(method.statistics) <= {"gram", "delta_gram", "vector_gram", "merged_delta"}
    names = [p.name for p in method.parameters]
    assert len(set(names)) == len(names)
    if method.base is Base.IGNORED:
        assert all(p.scope is not Scope.NON_BASE for p in method.parameters)
    for name in names:
        parameter = method.parameter(name)
        assert parameter is not None
        check_parameter(parameter)
    assert method.parameter("no_such_parameter") is None


def check_parameter(p: Parameter) -> None:
    assert p.doc, p.name
    assert p.mergekit or p.default is not None, f"{p.name}: what mergekit does not know needs a neutral default"
    assert p.low <= p.high, p.name
    assert not (p.required and p.default is not None), f"{p.name}: a required parameter has no default"
    assert not (p.required and not p.effect), f"{p.name}: what is required must have an effect"
    for value in (p.default, p.search_fixed):
        if value is not None:
            assert type(value) is p.kind, p.name
            assert p.low <= value <= p.high, p.name
    if p.search is not None:
        assert p.kind is float, f"{p.name}: a switch has no range"
        assert p.effect, f"{p.name}: nothing is gained by searching it"
        assert p.low <= p.search.low < p.search.high <= p.high, p.name
        assert p.search.low > 0 or not p.search.log, p.name
    assert p.search is None or p.search_fixed is None, f"{p.name}: either searched or held"


def test_unknown_methods_are_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown merge method 'tise'\. Did you mean 'ties'\?"):
        get_method("tise")


def _middle(inputs: tuple[torch.Tensor, ...], base: int | None) -> torch.Tensor:
    assert base == 0
    return torch.stack(inputs).median(dim=0).values


def test_a_method_of_its_own_form_runs() -> None:
    def plan(given: ParameterValues, _stats: Statistics) -> Custom:
        assert given.others == (1, 2)
        return Custom(_middle)

    method = MergeMethod("median", "Elementwise median.", "arXiv:0000.00000", Base.REQUIRED, (), plan)
    inputs = tensors(method, (3, 5), torch.bfloat16)
    merged = merge(method, inputs)
    assert merged.dtype == torch.float32
    assert torch.equal(merged, torch.stack(inputs).float().median(dim=0).values)
