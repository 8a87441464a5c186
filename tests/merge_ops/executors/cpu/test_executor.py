"""Every executor gives the reference's bits: all methods, dtypes, shapes, ties, thread counts."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from jobs import VARIANTS, has_kernel, job_for, models, models_of, reference

from mergesmith.merge_ops import executor_name
from mergesmith.merge_ops.bank.input_statistics import InputStatistics
from mergesmith.merge_ops.executors import dispatch
from mergesmith.merge_ops.executors.cpu import executor as compiled
from mergesmith.merge_ops.executors.cpu.launch import chunks_of, parallel
from mergesmith.merge_ops.executors.cpu.load_store import STRIP
from mergesmith.merge_ops.executors.cpu.magnitudes import pending_cuts
from mergesmith.merge_ops.executors.cpu.magnitudes import table as magnitude_table
from mergesmith.merge_ops.executors.cpu.magnitudes.pending_cuts import PendingGroupCut, resolve_all
from mergesmith.merge_ops.executors.cpu.magnitudes.table import MagnitudeTable, largest_once
from mergesmith.merge_ops.executors.cpu.task_vector_counts import TaskVectorCounts
from mergesmith.merge_ops.executors.job import TensorJob
from mergesmith.merge_ops.methods import METHODS, AddDelta, Custom
from mergesmith.merge_ops.methods.arcee_fusion import importance
from mergesmith.merge_ops.numerics.reductions import CHUNK, fixed_exponent, fixed_sum, gram_matrix
from mergesmith.merge_ops.numerics.top_k import largest

BFLOAT16, FLOAT16, FLOAT32 = torch.bfloat16, torch.float16, torch.float32
LARGE = (3, CHUNK // 2 + STRIP + 5)  # several chunks, strips and threads


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def assert_same_bits(job: TensorJob) -> None:
    if has_kernel(job):
        assert compiled.can_run(job), "there is no kernel for this"
        compiled.run_all([job])
    else:
        dispatch.run([job])
    expected = reference(job)
    bits = torch.int32 if expected.dtype == FLOAT32 else torch.int16
    different = int((job.out.view(bits) != expected.view(bits)).sum())
    assert not different, f"{different} of {expected.numel()} elements differ"


@pytest.mark.parametrize(("name", "changed"), VARIANTS, ids=lambda value: str(value))
def test_compiled_kernels_give_the_references_bits(name: str, changed: dict[str, Any]) -> None:
    method = METHODS[name]
    for shape in ((37, 53), (1,), (2 * STRIP + 3,)):
        for stored, out in ((BFLOAT16, BFLOAT16), (FLOAT32, FLOAT16), (FLOAT16, FLOAT32)):
            assert_same_bits(job_for(method, models(shape, models_of(method), stored), out, **changed))


@pytest.mark.parametrize("name", METHODS)
def test_bits_do_not_depend_on_threads_or_on_what_is_remembered(name: str, threads: int) -> None:
    method, known = METHODS[name], {}
    inputs = models(LARGE, models_of(method), BFLOAT16)
    for _ in range(2):  # the second time from remembered statistics
        assert_same_bits(job_for(method, inputs, BFLOAT16, known=known))
    assert_same_bits(job_for(method, inputs, BFLOAT16, repeated=False))


@pytest.mark.parametrize("name", ["linear", "ties", "breadcrumbs", "dare_ties", "della", "sce"])
def test_tensors_may_lie_at_any_even_address(name: str) -> None:
    method, size = METHODS[name], CHUNK + 777
    inputs = [x[i % 2 :][:size] for i, x in enumerate(models((size + 1,), models_of(method), BFLOAT16))]
    job = job_for(method, inputs, BFLOAT16)
    assert_same_bits(replace(job, out=torch.empty(size + 1, dtype=BFLOAT16)[1:]))


@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_rows_of_any_length_are_ranked(name: str) -> None:
    method = METHODS[name]
    for shape in ((700, 333), (90, 1), (3, 70_001)):  # several chunks of rows; rows that begin within a word of bits
        assert_same_bits(job_for(method, models(shape, models_of(method), BFLOAT16), BFLOAT16))


def test_mixed_dtypes_and_many_tensors_share_a_launch() -> None:
    for name in ("linear", "ties", "dare_ties"):
        jobs = []
        for i, shape in enumerate(((5,), (300, 70), (STRIP,), (2, 3))):
            inputs = models(shape, 3, (BFLOAT16, FLOAT32, FLOAT16)[i % 3], seed=i)
            inputs[1] = inputs[1].float()
            jobs.append(job_for(METHODS[name], inputs, (FLOAT32, BFLOAT16)[i % 2]))
        compiled.run_all(jobs)
        for job in jobs:
            assert torch.equal(job.out, reference(job)), name


def test_unusual_numbers() -> None:
    values = [0.0, -0.0, 1e-40, -1e-45, 6e-8, 5.96e-8, 65504.0, 65519.0, 65520.0, 1e38, math.inf, -math.inf, math.nan]
    for stored in (FLOAT32, BFLOAT16, FLOAT16):
        tensor = torch.tensor(values, dtype=torch.float64).to(stored)
        for out in (FLOAT32, BFLOAT16, FLOAT16):
            job = job_for(METHODS["passthrough"], [tensor], out)
            compiled.run_all([job])
            assert torch.equal(torch.nan_to_num(job.out, 123.0), torch.nan_to_num(tensor.to(out), 123.0)), (
                stored,
                out,
            )
            assert torch.equal(torch.signbit(job.out[:-1]), torch.signbit(tensor[:-1]))


def test_every_half_precision_number_survives() -> None:
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    for dtype in (FLOAT16, BFLOAT16):
        tensor = bits.view(dtype)
        for out in (dtype, FLOAT32):
            job = job_for(METHODS["passthrough"], [tensor], out)
            compiled.run_all([job])
            expected = tensor.to(out)
            assert torch.equal(job.out.isnan(), expected.isnan())
            assert torch.equal(job.out.nan_to_num(1.0), expected.nan_to_num(1.0))


@pytest.mark.parametrize("stored", [BFLOAT16, FLOAT32])
@pytest.mark.parametrize("size", [1, 300, 5000, CHUNK + 70_000])
def test_tables_keep_exactly_the_largest(size: int, stored: torch.dtype) -> None:
    inputs = models((size,), 2, stored)
    delta = inputs[1].float() - inputs[0].float()
    table = MagnitudeTable(inputs)
    bits = delta.abs().view(torch.int32).numpy().astype(np.int64)
    assert table.nonzero(inputs) == int(delta.count_nonzero())
    for count in {0, 1, 2, size // 3, size // 2, size - 1, size}:
        for cut in resolve_all((table.select(count, inputs), largest_once(inputs, count))):
            kept = (bits > cut.bits) | ((bits == cut.bits) & (np.arange(size) < cut.bound))
            assert np.array_equal(kept, largest(delta, count).numpy())


@pytest.mark.parametrize("size", [5000, CHUNK + 5])
def test_equal_numbers_are_counted_not_collected(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pending_cuts, magnitude_table):
        monkeypatch.setattr(module, "MOST_COLLECTED", 1000)
    values = torch.tensor([0.1, -0.1, 0.11, 0.0])  # no bin of theirs but that of 0 is told apart by its upper bits
    inputs = [torch.zeros(size), values[torch.randint(4, (size,), generator=torch.Generator().manual_seed(1))]]
    bits, table = inputs[1].abs().view(torch.int32).numpy().astype(np.int64), MagnitudeTable(inputs)
    counts = [1, size // 5, size // 4, size // 2, size - 1]
    asked = [selection for count in counts for selection in (table.select(count, inputs), largest_once(inputs, count))]
    assert all(int(x.counts.sum()) <= 1000 for x in asked if isinstance(x, PendingGroupCut))
    for count, cut in zip([count for count in counts for _ in range(2)], resolve_all(asked), strict=True):
        kept = (bits > cut.bits) | ((bits == cut.bits) & (np.arange(size) < cut.bound))
        assert np.array_equal(kept, largest(inputs[1], count).numpy())


def test_tensors_that_share_their_inputs_share_a_launch() -> None:
    known: dict[Any, Any] = {}
    inputs = models((300, 70), 3, FLOAT32)
    jobs = [job_for(METHODS["breadcrumbs"], inputs, FLOAT32, known=known, rescale=True) for _ in range(5)]
    compiled.run_all(jobs)
    for job in jobs:
        assert torch.equal(job.out, reference(job))


def test_fixed_point_sums_by_kernels_are_those_of_the_reference() -> None:
    inputs = models(LARGE, 2, BFLOAT16)
    counts = TaskVectorCounts(job_for(METHODS["ties"], inputs, BFLOAT16))
    delta = inputs[1].float() - inputs[0].float()
    size, exponent = delta.numel(), fixed_exponent(float(delta.abs().max()))
    assert counts.exponent(0) == exponent
    assert counts.total(0) == fixed_sum(delta, exponent)
    low, high = counts.select(0, size // 2), counts.select(0, size // 50)
    kept = largest(delta, size // 2) & ~largest(delta, size // 50)
    assert counts.kept(0, low, high) == fixed_sum(delta * kept, exponent)


@pytest.mark.parametrize(("size", "stored"), [(5000, BFLOAT16), (1 << 20, FLOAT32), (1 << 22, BFLOAT16)])
def test_tables_are_small_beside_their_tensors(size: int, stored: torch.dtype) -> None:
    inputs = models((size,), 2, stored)
    assert MagnitudeTable(inputs).nbytes <= 0.02 * inputs[1].nbytes


def test_gram_matrices_by_kernels_have_the_references_bits(threads: int) -> None:
    inputs = models(LARGE, 3, BFLOAT16)
    statistics = InputStatistics(lambda: inputs, 0)
    assert np.array_equal(statistics.gram(), gram_matrix(inputs))
    assert np.array_equal(statistics.delta_gram(), gram_matrix(inputs[1:], inputs[0]))


def test_what_kernels_cannot_read_is_left_to_the_reference() -> None:
    inputs = models((6, 8), 3, FLOAT32)
    method = METHODS["linear"]
    assert not compiled.can_run(job_for(method, [x.double() for x in inputs], FLOAT32))
    assert not compiled.can_run(job_for(method, [x.t() for x in inputs], FLOAT32))
    assert not compiled.can_run(job_for(METHODS["della"], models((2, 3, 4), 3, FLOAT32), FLOAT32))


def test_a_scaled_task_vector_is_added() -> None:
    base, other = models((700,), 2, BFLOAT16)
    delta = other.float() - base.float()
    job = job_for(METHODS["linear"], [base, other], BFLOAT16)
    assert_same_bits(TensorJob(AddDelta(delta, 0.3), job.inputs, job.out, 0, 0, "x", job.remember))


def test_zeros_keep_their_signs() -> None:
    inputs = models((4000,), 3, BFLOAT16)
    inputs[0][::3] = -0.0
    for other in inputs[1:]:
        other[::3] = 0.0
    for name in ("ties", "dare_linear", "breadcrumbs", "localize_and_stitch"):
        for weight in (-0.5, 0.5):
            assert_same_bits(job_for(METHODS[name], inputs, BFLOAT16, weight=weight))


def test_a_long_vector_has_the_same_importance_for_every_thread_count() -> None:
    base, other = models((70_000,), 2, BFLOAT16)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            divergence, threshold = importance(base, other)
            found.append((divergence.item(), threshold))
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


def test_without_a_compiler_plain_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "executor_for", lambda _device: None)
    job = job_for(METHODS["ties"], models((20, 30), 3, BFLOAT16), BFLOAT16)
    dispatch.run([job])
    assert torch.equal(job.out, reference(job))


def test_a_plan_without_a_kernel_runs_on_the_reference() -> None:
    job = job_for(METHODS["nearswap"], models((20, 30), 2, BFLOAT16), BFLOAT16, t=1e-3)
    assert isinstance(job.plan, Custom)
    job = replace(job, plan=replace(job.plan, kernel=None))
    assert not compiled.can_run(job)
    dispatch.run([job])
    assert torch.equal(job.out, reference(job))


def test_the_executor_is_named_by_its_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert executor_name("cpu") == "numba"
    assert executor_name("meta") == "torch"
    monkeypatch.setattr(dispatch, "executor_for", lambda _device: None)
    assert executor_name("cpu") == "torch"


def test_an_error_is_raised_after_all_pieces_have_ended() -> None:
    begun, ended = threading.Event(), threading.Event()

    def piece(first: int, _last: int) -> None:
        if first == 0:
            assert begun.wait(timeout=60)  # else the second piece may be cancelled before it begins
            raise RuntimeError("the first piece")
        begun.set()
        time.sleep(0.05)
        ended.set()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="the first piece"):
            parallel(piece, chunks_of([4 * CHUNK], CHUNK), pieces=1)
    finally:
        torch.set_num_threads(before)
    assert ended.is_set()
