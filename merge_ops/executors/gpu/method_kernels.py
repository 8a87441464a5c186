"""Methods with kernels of their own: what they need to know of the inputs, and the launches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import triton

from ...methods import Custom
from ...methods.arcee_fusion import importance
from ...methods.ram import unique_scales
from ...methods.sce import energy_shares
from ...numerics.reductions import CHUNK, chunked_sum, row_sums, sum_of_chunks
from ..job import TensorJob
from .elementwise import CONSENSUS, FUSION, LANES, NEARSWAP, NUMBERS, RAM, SCE, SCE_CUT, elementwise, energies
from .launch import BLOCK, EXACT, aligned, chunk_table, codes, table, upload
from .magnitude_table import Inputs, MagnitudeTable
from .pending_cuts import Request, resolve

PIECE = 1 << 24  # elements at a time where torch operations count
CHUNKS = 256  # of a tensor, whose energies are halved at a time: 32 MiB of sums per source

Launcher = Callable[[Sequence[TensorJob]], None]


def launcher(plan: Custom, sources: int) -> Launcher | None:
    """What runs works of a method, all with the same dtypes; None where nothing does."""
    if plan.kernel == "sce" and plan.numbers[0] < 1.0:
        return _sce_on_cut if sources > 1 else None  # one source has no variance
    return KERNELS.get(plan.kernel or "")


def _launch(
    works: Sequence[TensorJob],
    rule: int,
    parameters: Sequence[Sequence[float]],
    numbers: torch.Tensor | None = None,
    addresses: torch.Tensor | None = None,
) -> None:
    """One launch over all works; see `own.elementwise` for the tables."""
    device, tensors = works[0].out.device, _tensors(works[0])
    chunks = chunk_table(tuple(work.out.numel() for work in works), device)
    elementwise[(len(chunks),)](
        chunks,
        _addresses(works) if addresses is None else addresses,
        table(np.zeros((len(works), NUMBERS)), device) if numbers is None else numbers,
        upload(np.array(parameters, np.float32), device),
        CODES=codes(tensors),
        COUNT=len(tensors) - 2,
        RULE=rule,
        STRIDE=len(parameters[0]),
        ALIGNED=aligned(tensors),
        BLOCK=BLOCK,
        **EXACT,
    )


def _nearswap(works: Sequence[TensorJob]) -> None:
    _launch(works, NEARSWAP, [_numbers(work) for work in works])


def _consensus(works: Sequence[TensorJob]) -> None:
    _launch(works, CONSENSUS, [_numbers(work) for work in works])


def _ram(works: Sequence[TensorJob]) -> None:
    _launch(works, RAM, [_ram_parameters(work) for work in works])


def _ram_parameters(work: TensorJob) -> tuple[float, ...]:
    epsilon, r, alpha, factor = _numbers(work)
    scales = (1.0,) * len(work.sources)
    if r:
        known = _remembered(work, "moved", dict)
        if epsilon not in known:  # one answer is kept: epsilon may be searched
            found = _moved_counts(work.based, epsilon)
            known.clear()
            known[epsilon] = found
        scales = unique_scales(known[epsilon], epsilon, r, alpha)
    return (epsilon, factor, *scales)


def _moved_counts(inputs: Inputs, epsilon: float) -> list[list[int]]:
    """Per source how many elements it moved alone, and how many together with others."""
    parts = []
    for start in range(0, inputs[0].numel(), PIECE):
        own, *others = (x.reshape(-1)[start : start + PIECE].float() for x in inputs)
        moved = [(x - own).abs_() > epsilon for x in others]
        count = torch.stack(moved).sum(0, dtype=torch.int32)
        alone, shared = count == 1, count > 1
        parts.append(torch.stack([torch.stack([(m & alone).sum(), (m & shared).sum()]) for m in moved]))
    return torch.stack(parts).sum(0).tolist()


def _fusion(works: Sequence[TensorJob]) -> None:
    known = [_remembered(work, "importance", partial(importance, *work.based)) for work in works]
    lengths = [work.out.shape[-1] if work.out.dim() else 1 for work in works]
    rows = [[divergence.data_ptr(), length] for (divergence, _), length in zip(known, lengths, strict=True)]
    _launch(works, FUSION, [(threshold,) for _, threshold in known], table(rows, works[0].out.device))


def _sce(works: Sequence[TensorJob]) -> None:
    found = [_remembered(work, "energies", partial(_energies, work.based)) for work in works]
    _launch(works, SCE, [_sce_parameters(work, own) for work, own in zip(works, found, strict=True)])


def _energies(inputs: Inputs) -> list[float]:
    """The sums of the squares of whole task vectors."""
    return [chunked_sum([x, inputs[0]], lambda x, own: (x.float() - own.float()).double().square()) for x in inputs[1:]]


def _sce_on_cut(works: Sequence[TensorJob]) -> None:
    device, requests = works[0].out.device, []
    for t, work in enumerate(works):
        variances = _remembered(work, "variances", partial(MagnitudeTable, work.based))
        selection = variances.select(int(variances.nonzero * _numbers(work)[0]), work.based)
        requests.append(Request(selection, work.based, (t, 0, 0)))
    numbers = resolve(requests, np.zeros((len(works), 1, NUMBERS), np.int64), device)
    addresses = _addresses(works)
    sums = [energy_sums(work.based, addresses[t, 1:], numbers[t]) for t, work in enumerate(works)]
    # The host waits here, once for all works.
    found = torch.cat(sums).cpu().split([len(part) for part in sums])
    parameters = [
        _sce_parameters(work, [sum_of_chunks(own) for own in part.t().tolist()])
        for work, part in zip(works, found, strict=True)
    ]
    _launch(works, SCE_CUT, parameters, numbers, addresses)


def energy_sums(inputs: Inputs, addresses: torch.Tensor, cut: torch.Tensor) -> torch.Tensor:
    """The sums of the squares of K task vectors where the variance is at least the cut, (chunks, K) float64.

    On the device, as are the inputs' `addresses`, (1 + K,) int64, and the magnitude bits and the bound of `cut`, int64.
    """
    size, count, parts = inputs[0].numel(), len(inputs) - 1, []
    chunks = triton.cdiv(size, CHUNK)
    for first in range(0, chunks, CHUNKS):
        some = min(CHUNKS, chunks - first)
        halves = torch.zeros((some, count, LANES), dtype=torch.float64, device=inputs[0].device)
        energies[(count, triton.cdiv(min(size, LANES), BLOCK), some)](
            addresses,
            cut,
            size,
            first,
            halves,
            CODES=codes(inputs),
            COUNT=count,
            ALIGNED=aligned(inputs),
            BLOCK=BLOCK,
            **EXACT,
        )
        parts.append(row_sums(halves))
    return torch.cat(parts)


def _sce_parameters(work: TensorJob, sums: Sequence[float]) -> tuple[float, ...]:
    size = work.out.numel()
    return (_numbers(work)[1], *energy_shares([own / size for own in sums]))


def _numbers(work: TensorJob) -> tuple[float, ...]:
    assert isinstance(work.plan, Custom), "Should not reach."
    return work.plan.numbers


def _remembered(work: TensorJob, key: Hashable, make: Callable[[], Any]) -> Any:
    """What follows from all inputs and from no number."""
    return work.remember((work.base or 0, *work.sources), key, make)


def _tensors(work: TensorJob) -> tuple[torch.Tensor, ...]:
    return (work.out, *work.based)


def _addresses(works: Sequence[TensorJob]) -> torch.Tensor:
    return table([[x.data_ptr() for x in _tensors(work)] for work in works], works[0].out.device)


KERNELS: dict[str, Launcher] = {
    "nearswap": _nearswap,
    "ram": _ram,
    "consensus": _consensus,
    "arcee_fusion": _fusion,
    "sce": _sce,
}
