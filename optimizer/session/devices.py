"""Selection of the devices to merge and score on."""

from __future__ import annotations

import torch

from mergesmith.errors import UserError


def pick_device(name: str, place: str) -> torch.device:
    """Return the device of that name; "auto" is the first GPU, or the CPU if there is none.

    `place` is the key or option that gave the name.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{place}: '{name}' cannot be used: {str(error).splitlines()[0]}") from None
    return device


def pick_devices(name: str, place: str, count: int) -> tuple[torch.device, ...]:
    """Return the first `count` CUDA devices, or for a count of 1 the device of that name (see `pick_device`).

    `place` is the key or option that gave the name.

    Raises:
        UserError: this process sees fewer devices.
    """
    if count == 1:
        return (pick_device(name, place),)
    section = place.rpartition(".")[0]
    wanted = f"{section}.gpus_per_worker" if section else "gpus_per_worker"
    if name not in ("auto", "cuda"):
        raise UserError(f"{wanted}: {count} needs {place}: cuda (or auto), but it is '{name}'; leave one of them out")
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if here < count:
        raise UserError(
            f"{wanted}: a worker must see {count} CUDA devices, but {here} are here; lower it, or give the worker more "
            "(CUDA_VISIBLE_DEVICES)"
        )
    return tuple(torch.device("cuda", i) for i in range(count))


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the type of another device; devices of the same name compute the same bits."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
