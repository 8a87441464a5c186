"""Loads mergekit's results from tests/golden/data, one frozen record per case; tensors are read on access."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import write_model

DATA = Path(__file__).resolve().parent.parent / "golden" / "data"


class Declared(Protocol):
    """A parameter of a method, of which cases need name and default."""

    @property
    def name(self) -> str: ...
    @property
    def default(self) -> float | bool | None: ...


@dataclass(frozen=True)
class MethodCase:
    """One call of a method on plain tensors.

    `per_input` has a parameter's values in the order of the inputs, None for an input that takes none (the base).
    `dtype` is the promoted dtype of the inputs, in which mergekit computed. `ties` says that a cut by magnitude is
    between equal magnitudes, of which mergekit keeps an arbitrary selection.
    """

    id: str
    method: str
    parameters: Mapping[str, Any]
    per_input: Mapping[str, tuple[Any, ...]]
    base: int | None
    input_keys: tuple[str, ...]
    output_key: str
    dtype: str
    ties: bool

    def inputs(self) -> list[torch.Tensor]:
        """Return fresh copies of the input tensors, the base at index `base`."""
        return [_method_tensor(key).clone() for key in self.input_keys]

    def value_of(self, parameter: Declared, i: int | None) -> Any:
        """Return a parameter's value for input i, or for the tensor (i is None): the case's, else the default."""
        if i is None:
            return self.parameters.get(parameter.name, parameter.default)
        given = self.per_input[parameter.name][i] if parameter.name in self.per_input else None
        return parameter.default if given is None else given

    def expected(self) -> torch.Tensor:
        """Return mergekit's result."""
        return _method_tensor(self.output_key).clone()


@dataclass(frozen=True)
class RecipeCase:
    """One whole recipe; its model references are folders of the working directory.

    `models` has each reference's arguments for `write_model`, and `digests` its weights' digest. `exact` is False if
    mergekit computed in a dtype below float32. `vocabulary` is given if vocabularies differ: the output's `tokens` in
    the order of the stored rows (rows without a token come last), the `ids` of the tokens that keep one model's ids,
    and its `size`.
    """

    name: str
    family: str
    models: Mapping[str, Mapping[str, Any]]
    digests: Mapping[str, str]
    exact: bool
    note: str
    path: Path
    vocabulary: Mapping[str, Any] | None = None

    def text(self) -> str:
        """Return the YAML."""
        return self.path.read_text()

    def expected(self) -> dict[str, torch.Tensor]:
        """Return mergekit's output tensors by checkpoint name."""
        return load_file(self.path.with_suffix(".safetensors"))

    def write_models(self, folder: str | Path) -> dict[str, Path]:
        """Write the source models into `folder`, each under its reference, and check them against the digests."""
        paths: dict[str, Path] = {}
        for ref, arguments in self.models.items():
            paths[ref] = write_model(Path(folder) / ref, **arguments)
            if source_digest(paths[ref]) != self.digests[ref]:
                raise ValueError(f"{self.name}: model {ref} is not the one mergekit merged; run make_golden.py again")
        return paths


@cache
def method_cases(method: str | None = None) -> tuple[MethodCase, ...]:
    """Return the method-level cases, all or one method's, in stored order."""
    cases = (_method_case(raw) for raw in json.loads((DATA / "methods.json").read_text()))
    return tuple(case for case in cases if method in (None, case.method))


@cache
def recipe_cases() -> tuple[RecipeCase, ...]:
    """Return the whole-recipe cases in stored order."""
    folder = DATA / "recipes"
    index = json.loads((folder / "index.json").read_text())
    return tuple(RecipeCase(**raw, path=folder / f"{raw['name']}.yaml") for raw in index)


def source_digest(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's sorted names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    tensors: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _method_case(raw: Mapping[str, Any]) -> MethodCase:
    return MethodCase(
        id=raw["id"],
        method=raw["method"],
        parameters=raw["parameters"],
        per_input={name: tuple(values) for name, values in raw["per_input"].items()},
        base=raw["base"],
        input_keys=tuple(raw["inputs"]),
        output_key=raw["output"],
        dtype=raw["dtype"],
        ties=raw["ties"],
    )


@cache
def _method_tensor(key: str) -> torch.Tensor:
    with safe_open(DATA / "methods.safetensors", framework="pt") as file:
        return file.get_tensor(key)
