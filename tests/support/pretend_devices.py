"""Emulated devices: tensors that report one as their device, and reject operations with tensors of another.

Their elements are in the host's memory and the CPU does every operation, so results have the CPU's bits. Operations
that a GPU would reject are rejected (operations on tensors of two devices, and indices on another device than what they
index). Nothing is asynchronous here, and no kernel of a GPU runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

KIND = "maia"  # a kind of device that torch knows by name, and no machine of ours has
DEVICES = tuple(torch.device(KIND, i) for i in range(3))
CPU = torch.device("cpu")
aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
WHOLE = (torch.nn.functional.scaled_dot_product_attention,)
INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


class Pretended(torch.Tensor):
    """A tensor on an emulated device; `elements` is the CPU tensor that holds its elements."""

    elements: torch.Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, elements: torch.Tensor, device: torch.device) -> Pretended:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            elements.shape,
            strides=elements.stride(),
            storage_offset=elements.storage_offset(),
            dtype=elements.dtype,
            device=torch.device("meta"),  # torch runs no kernels for it; the property `device` is what callers see
        )
        made.elements, made.place = elements, device
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    def data_ptr(self) -> int:
        return self.elements.data_ptr()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WHOLE:  # torch would choose their steps by the kind of device
            return run(func, args, kwargs or {})
        if func is torch.Tensor.tolist:
            return args[0].elements.tolist()
        if func is torch.Tensor.__getitem__ and isinstance(args[1], tuple):  # torch would make lists to tensors itself
            args = args[0], tuple(torch.tensor(part) if isinstance(part, list) else part for part in args[1])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


@contextlib.contextmanager
def pretended_devices() -> Iterator[tuple[torch.device, ...]]:
    """Let tensors be created on and moved to DEVICES inside this context."""
    # torch.tensor(data, device=...) then makes its tensor on the CPU, and we see it move.
    inference = torch.inference_mode
    enter, leave = inference.__enter__, inference.__exit__
    inference.__enter__, inference.__exit__ = torch.no_grad.__enter__, torch.no_grad.__exit__  # type: ignore[assignment]
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_swap_module_params_on_conversion(True)  # Module.to keeps shared parameters shared
    try:
        with _Pretending():
            yield DEVICES
    finally:
        inference.__enter__, inference.__exit__ = enter, leave
        torch.__future__.set_swap_module_params_on_conversion(False)
        torch._C._set_only_lift_cpu_tensors(before)


def pretending_threads(count: int) -> ThreadPoolExecutor:
    """Return a pool of threads in which the devices exist too."""
    return ThreadPoolExecutor(count, initializer=_Pretending().__enter__)


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the elements; the result is on the device of the inputs, or on the requested one."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    here = {x.device for x in tensors if x.dim() or x.device != CPU}  # scalars on the host work with any device
    if func in INDEXING:
        here = {args[0].device, *(x.device for x in tensors[1:] if x.device != CPU)}
    asked = kwargs.get("device")
    if func is aten.scalar_tensor.default and torch.device(asked or CPU).type == "meta":
        asked = CPU  # a number that torch itself made for one of ours
        kwargs = {**kwargs, "device": CPU}
    target = torch.device(asked) if asked is not None else None
    if func not in COPIES and len(here) > 1:
        raise RuntimeError(f"{func}: tensors on {', '.join(sorted(map(str, here)))}")
    if target is None:
        target = args[0].device if func in COPIES else next(iter(here), tensors[0].device if tensors else CPU)
    if func is aten._to_copy.default and target == args[0].device and kwargs.get("dtype") in (None, args[0].dtype):
        return args[0]  # which torch would not have asked for
    if asked is not None:
        kwargs = {**kwargs, "device": CPU if target.type == KIND else target}
    if func is aten.histc.default:  # counts whole numbers on GPUs alone
        found = func(_inner(args[0]).float(), *args[1:], **kwargs).to(args[0].dtype)
        return _wrapped(found, target) if target.type == KIND else found
    found = func(*tree_map(_inner, args), **{name: tree_map(_inner, value) for name, value in kwargs.items()})
    if target.type != KIND:
        return found
    known = {id(_inner(x)): x for x in tensors}  # operations in place give back what they were given
    return tree_map(lambda x: known.get(id(x), _wrapped(x, target)), found)


def _wrapped(x: Any, device: torch.device) -> Any:
    return Pretended(x, device) if isinstance(x, torch.Tensor) and not isinstance(x, Pretended) else x


def _inner(x: Any) -> Any:
    return x.elements if isinstance(x, Pretended) else x
