"""Which device to work on."""

from __future__ import annotations

import torch

from mergesmith.errors import UserError


def pick_device(name: str, place: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, or the CPU where there is none.

    `place` is where the name was given.

    Raises:
        UserError: there is no such device here.
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
    """The first `count` CUDA devices, or the one device of that name (`pick_device`) where one is enough.

    `place` is where the name was given.

    Raises:
        UserError: there are not so many devices here.
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
    """What decides the bits of arithmetic: the GPU's name, or the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
