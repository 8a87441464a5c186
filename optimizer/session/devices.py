"""Selection of the devices to merge and score on."""

from __future__ import annotations

import warnings
from pathlib import Path
from shutil import which

import torch

from mergesmith.errors import UserError

DRIVER_FILE = Path("/dev/nvidia0")
BFLOAT16_MAJOR = 8  # of the compute capability: the first with bfloat16 arithmetic


class DeviceWarning(UserWarning):
    """A device is not used, or is slower than a user would expect."""


def pick_device(name: str, place: str) -> torch.device:
    """Return the device of that name; "auto" is the first GPU, or the CPU if there is none.

    `place` is the key or option that gave the name.

    Raises:
        UserError: this machine has no such device, or its type is not supported.
    """
    if name == "auto":
        device = default_device()
        _warn_of_device(device, place)
        return device
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise UserError(f"{place}: must be auto, cpu, cuda or cuda:N, but is '{name}', which is not supported")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{place}: '{name}' cannot be used: {str(error).splitlines()[0]}") from None
    if device.type == "cuda":
        _warn_of_device(device, place)
    return device


def _warn_of_device(device: torch.device, place: str) -> None:
    """Warn if a GPU of this machine is not used although the user left the choice open, or lacks bfloat16."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major < BFLOAT16_MAJOR:
            message = f"{place}: {torch.cuda.get_device_name(device)} (sm_{major}{minor}) has no bfloat16 arithmetic"
            warnings.warn(f"{message}, so scoring is slow and takes more memory; use sm_80 or newer", DeviceWarning, 3)
    elif reason := why_no_gpu():
        warnings.warn(f"{place}: {reason}, so the CPU is used", DeviceWarning, stacklevel=3)


def why_no_gpu() -> str | None:
    """Return why torch cannot use the NVIDIA GPU of this machine; None if it can, or if there is none."""
    if torch.cuda.is_available() or not (DRIVER_FILE.exists() or which("nvidia-smi")):
        return None
    if torch.version.cuda is None:
        return f"this machine has an NVIDIA GPU, but torch {torch.__version__} is a build without CUDA"
    return f"this machine has an NVIDIA GPU, but its driver is too old for CUDA {torch.version.cuda} or hides the GPU"


def default_device() -> torch.device:
    """Return the first GPU, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


def limit_memory(device: torch.device, share: float | None) -> None:
    """Limit torch in this process to a share of a CUDA device, 0 to 1; other shares and devices are not limited."""
    if device.type == "cuda" and share is not None and 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)
