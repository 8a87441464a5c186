"""Placement of a run's sources: on its devices, if they fit there beside the live model, or in the host's memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import torch

from mergesmith.errors import UserError

from ...merge_ops import METHODS, MergePlan, ModelBank, Places, buffer_bytes, places_of

ROOM = 0.8  # share of a device's free memory for sources and live model; activations need the rest


@dataclass(frozen=True)
class Load:
    """Memory of one device, in bytes.

    Attributes:
        free: free memory.
        live: this device's part of the live model.
        sources: this device's part of the sources.
        matrices: merged matrices that methods with a matrix decomposition keep here.
        buffers: buffers for sources that are copied from the host, if they are not kept here.
    """

    free: int
    live: int
    sources: int
    matrices: int
    buffers: int

    @property
    def room(self) -> float:
        """Usable bytes."""
        return ROOM * self.free

    @property
    def needed(self) -> int:
        """Bytes needed to keep the sources on the device."""
        return self.live + self.sources + self.matrices


@dataclass(frozen=True)
class Placement:
    """The place where the sources are kept.

    Attributes:
        resident: whether they are kept on the devices.
        words: the place and the reason, as a phrase for the user.
        homes: checkpoint name -> device of the tensor, with several devices; else empty.
        loads: device -> its memory, with several devices; else empty.
    """

    resident: bool
    words: str
    homes: Mapping[str, torch.device] = field(default_factory=dict)
    loads: Mapping[torch.device, Load] = field(default_factory=dict)

    def sentences(self) -> Iterator[str]:
        """Yield one line per device on what it holds, with several devices."""
        for device, load in self.loads.items():
            kept = f", {(load.sources + load.matrices) / 1e9:.2f} GB of sources and matrices" if self.resident else ""
            count = sum(home == device for home in self.homes.values())
            live = f"{load.live / 1e9:.2f} GB of the live model"
            yield f"{device}: {count} tensors, {live}{kept}; {load.room / 1e9:.1f} GB can be used."


def free_memory(device: torch.device, share: float = 1.0) -> int | None:
    """Return the free bytes of a CUDA device, at most `share` of its memory; None for other devices."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return min(free, int(share * total))


def place_sources(
    plan: MergePlan,
    bank: ModelBank,
    devices: Sequence[torch.device],
    free: Sequence[int],
    *,
    wish: str,
    spectral: int,
    live_scale: float = 1.0,
) -> Placement:
    """Distribute the live model of `plan` over the devices, and the sources with it if they fit.

    Args:
        plan: a merge of all models.
        bank: the opened sources.
        devices: the devices to use.
        free: free bytes of each device.
        wish: search.yaml's `bank`.
        spectral: how many merged matrices the searched methods keep for each tensor.
        live_scale: bytes of the live model for each byte of the merged weights; 2 if it holds bfloat16 in float32.

    Raises:
        UserError: the live model does not fit, or the sources do not although `bank` is `device`.
    """
    if len(devices) == 1:
        live = bank[plan.donor].nbytes
        places = Places({}, {devices[0]: live})
    else:
        places = places_of(plan, bank, devices, free)
    places = replace(places, nbytes={device: int(live_scale * size) for device, size in places.nbytes.items()})
    loads = _loads(plan, bank, places, dict(zip(devices, free, strict=True)), spectral)
    resident, words = _sources(loads, wish)
    if len(devices) > 1:
        _check_live(loads)
    else:
        _check_single(loads[devices[0]], devices[0], plan.donor, resident=resident)
    return Placement(resident, words, places.homes, loads if len(devices) > 1 else {})


def matrices_per_tensor(methods: Sequence[str]) -> int:
    """Return how many merged float32 matrices the candidates of these methods keep for each tensor."""
    return sum("merged_delta" in METHODS[name].statistics for name in methods if name in METHODS)


def decomposed_bytes(bank: ModelBank, base_model: str, methods: Sequence[str]) -> int:
    """Return the bytes of the merged float32 matrices that the candidates of these methods share."""
    return 4 * matrices_per_tensor(methods) * sum(prod(entry.shape) for entry in bank[base_model].entries.values())


def _loads(
    plan: MergePlan, bank: ModelBank, places: Places, free: Mapping[torch.device, int], spectral: int
) -> dict[torch.device, Load]:
    first = next(iter(free))
    sources, matrices = dict.fromkeys(free, 0), dict.fromkeys(free, 0)
    for reference in bank.references:
        for name, entry in bank[reference].entries.items():
            sources[places.homes.get(name, first)] += prod(entry.shape) * entry.dtype.itemsize
    for name, entry in bank[plan.donor].entries.items():
        matrices[places.homes.get(name, first)] += 4 * spectral * prod(entry.shape)
    largest: Counter[str] = Counter()
    for reference in bank.references:
        largest.update({name: prod(e.shape) * e.dtype.itemsize for name, e in bank[reference].entries.items()})
    task = max(largest.values(), default=0)
    return {d: Load(free[d], places.nbytes[d], sources[d], matrices[d], buffer_bytes(task, sources[d])) for d in free}


def _check_live(loads: Mapping[torch.device, Load]) -> None:
    for device, load in loads.items():
        if load.live > load.room:
            raise UserError(
                f"workers.gpus_per_worker: its {len(loads)} devices must hold a candidate, but its part on {device} "
                f"needs {load.live / 1e9:.1f} GB and {load.room / 1e9:.1f} GB can be used; use more devices"
            )


def _check_single(load: Load, device: torch.device, model: str, *, resident: bool) -> None:
    buffers = 0 if resident else load.buffers
    if load.live <= load.room and load.live + buffers <= load.free:
        return
    streaming = f", and {buffers / 1e9:.1f} GB to copy sources from the host" if buffers else ""
    raise UserError(
        f"workers.device: a candidate of the size of '{model}' needs {load.live / 1e9:.1f} GB{streaming}, but "
        f"{load.free / 1e9:.1f} GB of {device} are free, of which {load.room / 1e9:.1f} GB can be used for the model; "
        "free the device, use a larger one, spread a candidate over several (workers.gpus_per_worker: 2), or set "
        "workers.device: cpu"
    )


def _sources(loads: Mapping[torch.device, Load], wish: str) -> tuple[bool, str]:
    if wish == "host":
        return False, "in the host's memory, as bank: host asks"
    device, fullest = max(loads.items(), key=lambda item: item[1].needed / max(1, item[1].free))
    of = "" if len(loads) == 1 else f" on {device}, the fullest of {len(loads)}"
    room = f"{fullest.room / 1e9:.1f} GB of {device} can be used"
    reason = f"sources and live model need {fullest.needed / 1e9:.1f} GB{of}, {room}"
    if fullest.needed <= fullest.room:
        return True, f"kept on the device{'' if len(loads) == 1 else 's'}: {reason}"
    if wish == "device":
        raise UserError(f"bank: device: {reason}; use bank: host")
    return False, f"in the host's memory: {reason}; buffers to copy them take up to {fullest.buffers / 1e9:.1f} GB"
