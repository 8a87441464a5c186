"""The Triton kernels give the reference's bits: on a GPU where there is one, else under Triton's interpreter."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ROOT
from jobs import VARIANTS, has_kernel, job_for, models, models_of, reference

from mergesmith.merge_ops.executors import dispatch
from mergesmith.merge_ops.executors.gpu import elementwise
from mergesmith.merge_ops.executors.gpu import executor as gpu
from mergesmith.merge_ops.executors.gpu.launch import BLOCK, INTERPRETED, STEP, chunk_table
from mergesmith.merge_ops.executors.gpu.magnitudes import pending_cuts
from mergesmith.merge_ops.executors.gpu.magnitudes.pending_cuts import (
    CutRequest,
    PendingGroupCut,
    PendingIndexCut,
    resolve_all,
)
from mergesmith.merge_ops.executors.gpu.magnitudes.table import SMALL, MagnitudeTable
from mergesmith.merge_ops.executors.gpu.methods import ram, sce
from mergesmith.merge_ops.executors.gpu.task_vector_counts import TaskVectorCounts
from mergesmith.merge_ops.executors.job import TensorJob
from mergesmith.merge_ops.methods import METHODS, AddDelta
from mergesmith.merge_ops.methods.sce import variance
from mergesmith.merge_ops.numerics.random_masks import keep_mask, mask_key
from mergesmith.merge_ops.numerics.reductions import CHUNK, chunked_sum, fixed_sum, sum_of_chunks
from mergesmith.merge_ops.numerics.top_k import largest

pytestmark = pytest.mark.no_cover  # coverage cannot see kernels, and its tracer makes Triton's interpreter slower

BFLOAT16, FLOAT16, FLOAT32 = torch.bfloat16, torch.float16, torch.float32
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OWN = ("arcee_fusion", "consensus", "nearswap", "ramplus_tl", "sce")  # ram is ramplus_tl with r = 0


@pytest.fixture
def large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks as large as they can be where kernels are interpreted, which takes long per block."""
    if INTERPRETED:
        for module, name in ((elementwise, "BLOCK"), (sce, "ENERGY_BLOCK")):
            monkeypatch.setattr(module, name, min(STEP, sce.LANES))
        monkeypatch.setattr(pending_cuts, "BLOCK", STEP)


def assert_same_bits(name: str, inputs: list[torch.Tensor], out: torch.dtype, **changed: Any) -> None:
    expected = reference(job_for(METHODS[name], inputs, out, **changed))
    job = job_for(METHODS[name], [x.to(DEVICE) for x in inputs], out, **changed)
    if has_kernel(job):
        assert gpu.can_run(job), "there is no kernel for this"
        gpu.run_all([job])
    else:
        dispatch.run([job])
    bits = torch.int32 if out == FLOAT32 else torch.int16
    different = int((job.out.cpu().view(bits) != expected.view(bits)).sum())
    assert not different, f"{different} of {expected.numel()} elements differ"


@pytest.mark.parametrize(("name", "changed"), VARIANTS, ids=lambda value: str(value))
def test_kernels_give_the_references_bits(name: str, changed: dict[str, Any]) -> None:
    count = models_of(METHODS[name])
    for shape, stored, out in (
        ((37, 53), BFLOAT16, BFLOAT16),
        ((2 * BLOCK + 3,), FLOAT32, FLOAT16),
        ((7, 9), FLOAT16, FLOAT32),
        ((1,), BFLOAT16, FLOAT32),
    ):
        assert_same_bits(name, models(shape, count, stored), out, **changed)


@pytest.mark.parametrize("name", ["linear", "ties", "dare_ties", "breadcrumbs", "della"])
def test_tensors_of_several_chunks(name: str) -> None:
    assert_same_bits(name, models((2, STEP + BLOCK + 7), 3, BFLOAT16), BFLOAT16)


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize(
    ("name", "changed"), [*((name, {}) for name in OWN), ("sce", {"select_topk": 1.0})], ids=lambda value: str(value)
)
def test_own_kernels_over_several_chunks_and_pieces(
    name: str, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ram, "PIECE", 1000)
    inputs, known = models((101, 203), models_of(METHODS[name]), BFLOAT16), {}
    for _ in range(2):  # the second time from what is remembered
        assert_same_bits(name, inputs, BFLOAT16, known=known, **changed)


@pytest.mark.usefixtures("large_blocks")
def test_energies_are_summed_by_the_fixed_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sce, "CHUNKS_AT_ONCE", 1)
    inputs = models((CHUNK + 70_001,), 3, BFLOAT16)
    deltas = [x.float() - inputs[0].float() for x in inputs[1:]]
    placed, values = tuple(x.to(DEVICE) for x in inputs), variance(deltas)
    cut = torch.tensor([int(values.median().view(torch.int32)), 10_000])
    kept = (values > values.median()) | ((values == values.median()) & (torch.arange(len(values)) < 10_000))
    addresses = torch.tensor([x.data_ptr() for x in placed], device=DEVICE)
    sums = sce.energy_sums(placed, addresses, cut.to(DEVICE)).t().tolist()
    assert [sum_of_chunks(own) for own in sums] == [chunked_sum([delta * kept], torch.square) for delta in deltas]


@pytest.mark.usefixtures("large_blocks")
def test_mixed_dtypes_unaligned_and_many_tensors_share_launches() -> None:
    for name in ("linear", "ties", "dare_ties", *OWN):
        jobs, expected = [], []
        for i, shape in enumerate(((5,), (30, 70), (BLOCK,), (2, 3), (STEP + 5,))):
            inputs = models(shape, models_of(METHODS[name]), (BFLOAT16, FLOAT32, FLOAT16)[i % 3], seed=i)
            inputs[1] = torch.cat([inputs[1].view(-1)[:1], inputs[1].view(-1)])[1:].view(shape)
            out = (FLOAT32, BFLOAT16)[i % 2]
            expected.append(reference(job_for(METHODS[name], inputs, out)))
            # Moved by one element, addresses are no multiples of 16 bytes.
            placed = [x if i % 2 else _shifted(x) for x in (x.to(DEVICE) for x in inputs)]
            jobs.append(job_for(METHODS[name], placed, out))
        gpu.run_all(jobs)
        for job, wanted in zip(jobs, expected, strict=True):
            assert torch.equal(job.out.cpu(), wanted), name


def _shifted(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.reshape(-1)
    return torch.cat([flat[:1], flat])[1:].view(tensor.shape)


# Triton's interpreter computes with numpy, which warns.
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered")
def test_unusual_numbers() -> None:
    values = [0.0, -0.0, 1e-40, -1e-45, 6e-8, 5.96e-8, 65504.0, 65519.0, 65520.0, 1e38, math.inf, -math.inf, math.nan]
    for stored in (FLOAT32, BFLOAT16, FLOAT16):
        tensor = torch.tensor(values, dtype=torch.float64).to(stored)
        for out in (FLOAT32, BFLOAT16, FLOAT16):
            job = job_for(METHODS["passthrough"], [tensor.to(DEVICE)], out)
            gpu.run_all([job])
            found, wanted = job.out.cpu(), tensor.to(out)
            assert torch.equal(found.isnan(), wanted.isnan())
            assert torch.equal(found[:-1].float(), wanted[:-1].float()), (stored, out)
            assert torch.equal(torch.signbit(found[:-1]), torch.signbit(wanted[:-1]))


# Triton's interpreter computes with numpy, which warns.
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered")
def test_every_half_precision_number_survives() -> None:
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    for dtype in (FLOAT16, BFLOAT16):
        tensor = bits.view(dtype)
        job = job_for(METHODS["passthrough"], [tensor.to(DEVICE)], dtype)
        gpu.run_all([job])
        assert torch.equal(job.out.cpu().nan_to_num(1.0), tensor.nan_to_num(1.0))


@pytest.mark.parametrize("stored", [BFLOAT16, FLOAT32])
@pytest.mark.parametrize("size", [1, 300, SMALL, SMALL + 1, CHUNK + 5000])
def test_tables_keep_exactly_the_largest(size: int, stored: torch.dtype) -> None:
    inputs = models((size,), 2, stored)
    delta = inputs[1].float() - inputs[0].float()
    pair = (inputs[0].to(DEVICE), inputs[1].to(DEVICE))
    table = MagnitudeTable(pair)
    bits = delta.abs().view(torch.int32).numpy().astype(np.int64)
    assert table.total == fixed_sum(delta, table.exponent)
    counts = [0, 1, size // 50, size // 2, size] if size < CHUNK else [size // 3]
    selections = [table.select(count, pair) for count in counts]
    requests = [CutRequest(selection, pair, (i, 0, 2)) for i, selection in enumerate(selections)]
    found = resolve_all(requests, np.zeros((len(counts), 1, 8), np.int64), DEVICE).cpu()[:, 0, 2:4].tolist()
    for count, selection, (cut, bound) in zip(counts, selections, found, strict=True):
        expected = largest(delta, count)
        kept = (bits > cut) | ((bits == cut) & (np.arange(size) < bound))
        assert np.array_equal(kept, expected.numpy()), selection
        assert selection.kept == fixed_sum(delta * expected, table.exponent)


@pytest.mark.parametrize("stored", [BFLOAT16, FLOAT32])
@pytest.mark.parametrize("size", [1, 300, SMALL + 5000])
def test_tables_of_variances_keep_exactly_the_largest(size: int, stored: torch.dtype) -> None:
    inputs = models((size,), 3, stored)
    for x, value in zip(inputs, (0.0, 0.0, 0.5), strict=True):
        x[::3] = value  # many equal variances
    inputs[1][::7] = inputs[2][::7]  # and many of nought
    values = variance([x.float() - inputs[0].float() for x in inputs[1:]])
    placed = tuple(x.to(DEVICE) for x in inputs)
    counted = MagnitudeTable(placed)
    assert counted.nonzero == int(values.count_nonzero())
    bits = values.view(torch.int32).numpy().astype(np.int64)
    counts = [0, 1, size // 50, size // 4, size // 2, counted.nonzero]
    selections = [counted.select(count, placed) for count in counts]
    assert size <= SMALL or {type(selection) for selection in selections} >= {PendingIndexCut, PendingGroupCut}
    requests = [CutRequest(selection, placed, (i, 0, 0)) for i, selection in enumerate(selections)]
    found = resolve_all(requests, np.zeros((len(counts), 1, 2), np.int64), DEVICE).cpu()[:, 0].tolist()
    for count, selection, (cut, bound) in zip(counts, selections, found, strict=True):
        kept = (bits > cut) | ((bits == cut) & (np.arange(size) < bound))
        assert np.array_equal(kept, largest(values, count).numpy()), selection


def test_a_magnitude_alone_in_its_group_needs_no_pass() -> None:
    inputs = models((4 * CHUNK,), 2, BFLOAT16)
    pair = (inputs[0].to(DEVICE), inputs[1].to(DEVICE))
    table = MagnitudeTable(pair)
    kinds = [type(table.select(count, pair)) for count in range(CHUNK // 2, 4 * CHUNK, CHUNK // 16)]
    assert set(kinds) == {PendingIndexCut, PendingGroupCut}
    assert kinds.count(PendingIndexCut) > 0.8 * len(kinds)
    assert table.nbytes < 0.05 * inputs[1].nbytes


@pytest.mark.parametrize("size", [100, SMALL + 1, 1 << 21])
def test_sums_by_hash(size: int) -> None:
    inputs = models((size,), 2, BFLOAT16)
    delta = inputs[1].float() - inputs[0].float()
    counts = TaskVectorCounts(job_for(METHODS["dare_ties"], [x.to(DEVICE) for x in inputs], BFLOAT16))
    key = mask_key(7, "x", 0)
    for share in (0, 1, 30000, 65536):
        mask = keep_mask(key, share / 65536, delta.shape, delta.device)
        assert counts.kept_by_hash(0, key, share) == fixed_sum(delta * mask, counts.table(0).exponent)


def test_chunks_cover_every_element_once() -> None:
    sizes = (1, STEP, 3 * STEP + 1, 5)
    found = np.concatenate([[(t, e) for e in range(i, j)] for t, i, j in chunk_table(sizes, DEVICE).cpu().tolist()])
    assert np.array_equal(found, np.concatenate([[(t, e) for e in range(size)] for t, size in enumerate(sizes)]))


def test_what_kernels_cannot_read_is_left_to_the_reference() -> None:
    inputs = [x.to(DEVICE) for x in models((6, 8), 3, FLOAT32)]
    method = METHODS["linear"]
    assert not gpu.can_run(job_for(method, [x.double() for x in inputs], FLOAT32))
    assert not gpu.can_run(job_for(method, [x.t() for x in inputs], FLOAT32))
    assert not gpu.can_run(job_for(METHODS["sce"], inputs[:2], FLOAT32))  # one model has no variance
    assert not gpu.can_run(job_for(METHODS["della"], [x.view(2, 3, 8) for x in inputs], FLOAT32))


def test_a_scaled_task_vector_is_added() -> None:
    base, other = models((700,), 2, BFLOAT16)
    delta = other.float() - base.float()
    known = job_for(METHODS["linear"], [base, other], BFLOAT16)
    expected = reference(TensorJob(AddDelta(delta, 0.3), known.inputs, known.out, 0, 0, "x", known.remember))
    job = job_for(METHODS["linear"], [base.to(DEVICE), other.to(DEVICE)], BFLOAT16)
    gpu.run_all([TensorJob(AddDelta(delta.to(DEVICE), 0.3), job.inputs, job.out, 0, 0, "x", job.remember)])
    assert torch.equal(job.out.cpu(), expected)


def test_kernels_compile_for_hopper_without_fused_arithmetic(tmp_path: Path) -> None:
    names = ["masked_sum HASH ELECT_AND_DIVIDE", "sce on a cut", "ram"]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "tests/support/compile_for_hopper.py", *names],
        cwd=ROOT,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for name, instructions in json.loads(done.stdout).items():
        assert not [x for x in instructions if x.startswith("fma") or x.endswith(".f64") or "approx" in x], name
        assert "ld.global.v4.b32" in instructions and "st.global.v4.b32" in instructions, name  # 16 bytes at a time


def test_energies_do_not_spill() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = ROOT / "tests" / "support" / "energies_stack.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=True)
    stacks = json.loads(done.stdout)
    assert len(stacks) == 6 and set(stacks.values()) == {0}, stacks
