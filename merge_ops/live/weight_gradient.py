"""Gradients in the weights of a merge: one backward pass through the live model, no gradient of the model kept.

Weighted merges are linear in their weights, so dL/dw_k = <dL/dtheta, d theta / d w_k> for every merged tensor theta.
A hook takes these inner products as soon as a parameter's gradient is complete, and frees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..executors.job import TensorJob
from ..merging.merge_tensors import job_of
from ..methods import ParameterValues
from ..planning.merge_plan import MergePlan, TensorTask
from .live_model import LiveModel
from .masked_derivative import KeptElements
from .weight_derivative import NoWeightDerivativeError, TensorDerivative, tensor_derivative

TensorSlopes = dict[str, np.ndarray]  # checkpoint name -> dL/dw of its inputs in order, (inputs,) float64


@dataclass(frozen=True)
class _Part:
    """The elements of a merged tensor that one live parameter stores, from index `first` of the flattened tensor on.

    `view` locates them in the live storage.
    """

    task: TensorTask
    derivative: TensorDerivative
    view: torch.Tensor
    first: int


class WeightGradient:
    """Context manager: inside, every `backward` adds up dL/dw for each merged tensor and each of its inputs.

        live.load(recipe)
        with WeightGradient(live, plan_merge(recipe, live.bank)) as gradient:
            loss(live.model).backward()
            slopes = gradient.take()

    Beside the model, its sources and activations it needs memory for one parameter's gradient and, for methods with
    masks, one bit per element and source. Parameters get gradients inside the block only. Tensors that are copied, or
    are not of a floating-point dtype, are left out.
    """

    def __init__(self, live: LiveModel, plan: MergePlan) -> None:
        """Prepare for the recipe that `live` has loaded last; `plan` is its plan over `live.bank`.

        Raises:
            NoWeightDerivativeError: the method is not linear in weights.
        """
        self._live, self._plan = live, plan
        self._parameters: dict[int, torch.nn.Parameter] = {}
        self._parts: dict[int, list[_Part]] = {}  # by id of the parameter
        self._products: dict[str, torch.Tensor] = {}
        self._kept: dict[str, tuple[KeptElements, ...]] = {}
        self._handles: list[Any] = []
        self._derivatives: dict[str, TensorDerivative] = {}
        named = dict(live.model.named_parameters(remove_duplicate=False))
        known: dict[int, TensorDerivative] = {}  # tensors with the same parameter values share their derivative
        for task in plan.tasks:
            views = live.views[task.name]
            if not task.copied and any(view.live in named and view.target.is_floating_point() for view in views):
                self._add(task, named, known)

    def _add(self, task: TensorTask, named: dict[str, torch.nn.Parameter], known: dict[int, TensorDerivative]) -> None:
        if id(task.values) not in known:
            known[id(task.values)] = self._derivative(task.name, task.values)
        derivative = self._derivatives[task.name] = known[id(task.values)]
        for view in self._live.views[task.name]:
            parameter = named.get(view.live)
            if parameter is not None:  # buffers get no gradient
                first = (view.rows.start or 0) * view.target[0].numel() if view.target.dim() else 0
                self._parameters[id(parameter)] = parameter
                self._parts.setdefault(id(parameter), []).append(_Part(task, derivative, view.target, first))

    def _derivative(self, name: str, values: ParameterValues) -> TensorDerivative:
        try:
            return tensor_derivative(self._plan.method, values)
        except NoWeightDerivativeError as error:
            raise NoWeightDerivativeError(f"tensor '{name}': {error}") from None

    def __enter__(self) -> WeightGradient:
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
            self._handles.append(parameter.register_post_accumulate_grad_hook(self._collect))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None

    def take(self) -> TensorSlopes:
        """Return the sum of dL/dw over all backward passes since the last call, and reset it to 0.

        The result has every tensor that is not left out; inputs without a weight, such as a base, have derivative 0.
        """
        products, self._products = self._products, {}
        return {
            name: derivative.matrix @ products[name].cpu().numpy()
            if name in products
            else np.zeros(len(derivative.matrix))
            for name, derivative in self._derivatives.items()
        }

    @torch.no_grad()
    def _collect(self, parameter: torch.Tensor) -> None:
        """Take the inner products with a parameter's gradient, and free it."""
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None, "Should not reach."
        bank = self._live.bank if len(self._live.devices) == 1 else self._live.bank.on(gradient.device)
        for part in self._parts[id(parameter)]:
            piece, view = gradient, part.view
            if view.shape != parameter.shape or view.stride() != parameter.stride():
                offset = view.storage_offset() - parameter.storage_offset()
                piece = torch.as_strided(gradient.contiguous(), view.shape, view.stride(), offset)
            job = job_of(self._plan, part.task, bank, view)
            if not isinstance(job, TensorJob):
                continue
            if part.task.name not in self._kept:
                self._kept[part.task.name] = part.derivative.kept_elements(job)
            products = part.derivative.products(piece, part.first, job, self._kept[part.task.name])
            before = self._products.get(part.task.name)
            self._products[part.task.name] = products if before is None else before + products
