"""Spreads one model over several devices, with accelerate's hooks moving activations between them.

The device map has accelerate's form (module name -> device), but is not inferred by accelerate: its balancing reserves
space on the first devices for layers offloaded to the host, of which there are none here. Balance matters, because the
sources are kept on the device of the tensors merged from them, so an imbalance is multiplied by the number of models.

Not yet run on several real GPUs; the tests emulate devices that reject each other's tensors, as GPUs do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from transformers.core_model_loading import revert_weight_conversion

from mergesmith.errors import UserError

from ..architectures.meta_model import config_from, skeleton
from ..architectures.weight_views import group_of, renamed_only
from ..bank.model_bank import ModelBank
from ..planning.merge_plan import MergePlan
from ..planning.output_config import merged_config

DeviceMap = Mapping[str, torch.device]  # names of modules, and of parameters and buffers of modules that are split


@dataclass(frozen=True)
class Unit:
    """Modules, parameters and buffers (by name) that must be on one device; shared tensors count once in `nbytes`."""

    names: tuple[str, ...]
    nbytes: int


@dataclass(frozen=True)
class Places:
    """The device of each tensor of a model by checkpoint name, and the bytes on each device."""

    homes: Mapping[str, torch.device]
    nbytes: Mapping[torch.device, int]


def places_of(plan: MergePlan, bank: ModelBank, devices: Sequence[torch.device], memory: Sequence[int]) -> Places:
    """Return the devices of the tensors of a plan's live model, without reading weights.

    Raises:
        UserError: see `device_map`.
    """
    trust = bank.trust_remote_code
    settings = config_from(merged_config(plan, bank), bank[plan.donor].folder, trust_remote_code=trust)
    model, _ = skeleton(settings, trust_remote_code=trust)
    where = device_map(model, devices, memory)
    nbytes = dict.fromkeys(devices, 0)
    for unit in units(model):
        nbytes[where[unit.names[0]]] += unit.nbytes
    return Places(_homes(model, where), nbytes)


def device_map(model: Any, devices: Sequence[torch.device], memory: Sequence[int]) -> DeviceMap:
    """Return a device map that assigns consecutive layers to each device and minimizes the largest used share.

    `memory` is the size of each device, in any unit.

    Raises:
        UserError: transformers does not declare which modules must stay whole, or there are more devices than parts.
    """
    parts = units(model)
    if len(parts) < len(devices):
        raise UserError(
            f"{type(model).__name__} has {len(parts)} parts that must stay whole, fewer than the {len(devices)} "
            "devices of a worker; lower workers.gpus_per_worker"
        )
    ends = partition([unit.nbytes for unit in parts], memory)
    return {
        name: device
        for device, (start, end) in zip(devices, pairwise((0, *ends)), strict=True)
        for unit in parts[start:end]
        for name in unit.names
    }


def partition(sizes: Sequence[int], memory: Sequence[int]) -> tuple[int, ...]:
    """Split `sizes` into one non-empty run per entry of `memory`, minimizing the largest share of a memory.

    Return the end of each run; among equally good splits, the one with the earliest ends. Exact, by dynamic programming
    in O(len(memory) * len(sizes)**2).
    """
    sums = (0, *accumulate(sizes))
    count = len(sizes)
    # best[end]: the smallest possible largest share if the runs so far end there, and their ends.
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for k, room in enumerate(memory, start=1):
        after = len(memory) - k  # runs that follow
        last = (count,) if not after else range(k, count - after + 1)
        best = {
            end: min(
                (max(share, (sums[end] - sums[start]) / room), (*ends, end))
                for start, (share, ends) in best.items()
                if start < end
            )
            for end in last
        }
    return best[count][1]


def units(model: Any) -> list[Unit]:
    """Return the units that are not split, in the order of use: the start, each layer, each module after the layers.

    The start is the embedding with modules that have no parameters (rotary tables), parameters and buffers of modules
    that are split, and the parts of a multi-part model before the layers. A module that shares a tensor with an earlier
    unit joins it.

    Raises:
        UserError: transformers does not declare which modules must stay whole.
    """
    start, layers, rest = _parts(model)
    if not layers:
        raise UserError(
            f"{type(model).__name__} cannot be spread over several devices: it does not declare which of its modules "
            "must stay whole (_no_split_modules), or has no list of them; use workers.gpus_per_worker: 1"
        )
    owner: dict[int, int] = {}  # a tensor's unit, by its identity
    names: list[list[str]] = []
    nbytes: list[int] = []
    for part in (start, *([name] for name in (*layers, *rest))):
        tensors = [tensor for name in part for tensor in _tensors(model, name)]
        earlier = {owner[id(tensor)] for tensor in tensors if id(tensor) in owner}
        if not earlier:
            names.append([])
            nbytes.append(0)
        at = min(earlier, default=len(names) - 1)
        names[at] += part
        for tensor in tensors:
            if id(tensor) not in owner:
                owner[id(tensor)] = at
                nbytes[at] += tensor.nbytes
    return [Unit(tuple(unit_names), size) for unit_names, size in zip(names, nbytes, strict=True)]


def _parts(model: Any) -> tuple[list[str], list[str], list[str]]:
    """Return the names in the start, of the layers, and of the modules with parameters after the layers."""
    whole = set(model._no_split_modules or ())
    embedding = model.get_input_embeddings()
    start: list[str] = []
    layers: list[str] = []
    rest: list[str] = []

    def visit(module: torch.nn.Module, prefix: str) -> None:
        tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        start.extend(prefix + name for name, _ in tensors)
        for name, child in module.named_children():
            path = prefix + name
            blocks = list(child.children()) if isinstance(child, torch.nn.ModuleList) else []
            if child is not embedding and any(part is embedding for part in child.modules()):
                visit(child, f"{path}.")
            elif blocks and all(type(block).__name__ in whole for block in blocks):
                layers.extend(f"{path}.{i}" for i in range(len(blocks)))
            elif layers and any(True for _ in child.parameters()):
                rest.append(path)
            else:
                start.append(path)

    visit(model, "")
    return start, layers, rest


def _tensors(model: Any, name: str) -> list[torch.Tensor]:
    """Return the parameters and buffers of a module, or the parameter or buffer of that name."""
    parent, _, last = name.rpartition(".")
    holder = model.get_submodule(parent)
    if last in holder._modules:
        module = holder._modules[last]
        return [*module.parameters(), *module.buffers()]
    return [getattr(holder, last)]


def _homes(model: Any, where: DeviceMap) -> dict[str, torch.device]:
    """Return the device of every checkpoint tensor. Fused and split tensors are of one layer, so on one device."""
    grouped: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict().items():
        grouped.setdefault(group_of(name), {})[name] = tensor
    homes: dict[str, torch.device] = {}
    for tensors in grouped.values():
        renamed = renamed_only(model, tensors)
        if renamed is None:
            device = _device(next(iter(tensors)), where)
            homes.update(dict.fromkeys(revert_weight_conversion(model, tensors), device))
        else:
            homes.update({name: _device(live, where) for name, live in renamed.items()})
    return homes


def _device(name: str, where: DeviceMap) -> torch.device:
    """Return the device of a live tensor, which is that of its module."""
    while name and name not in where:
        name = name.rpartition(".")[0]
    return where[name]


def spread(model: Any, where: DeviceMap) -> Any:
    """Move a model's tensors to their devices, and install hooks that move the inputs of each module to its device.

    Outputs are moved back to the device of the model's inputs; cached keys and values stay with their layers.
    """
    from accelerate import dispatch_model  # merging to disk does not need it

    for name, device in where.items():
        parent, _, last = name.rpartition(".")
        holder = model.get_submodule(parent)
        if last in holder._parameters:  # hooks move only tensors inside the modules they are attached to
            holder._parameters[last] = torch.nn.Parameter(holder._parameters[last].to(device), requires_grad=False)
        elif last in holder._buffers:
            holder._buffers[last] = holder._buffers[last].to(device)
    first = where[next(iter(where))]
    return dispatch_model(model, dict(where), main_device=first, skip_keys=model._skip_keys_device_placement)
