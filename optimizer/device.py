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


def device_name(device: torch.device) -> str:
    """What decides the bits of arithmetic: the GPU's name, or the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
