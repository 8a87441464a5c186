"""The device that a user names."""

from __future__ import annotations

import torch

from mergesmith.errors import UserError


def usable_device(name: str, key: str) -> torch.device:
    """The device of that name (cpu, cuda, cuda:1); `auto` is a GPU where there is one. `key` names the setting.

    Raises:
        UserError: there is no such device, or it does not work.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{key}: '{name}' cannot be used: {str(error).splitlines()[0]}") from None
    return device
