"""The method-level cases: which tensors go through which method with which numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from tiny_models import weights

SHAPES = {
    "vec": (37,),
    "mat": (24, 17),
    "cube": (5, 4, 6),
    "big": (40, 48),
    "norm": (32,),  # around 1, so task vectors are small against the base
    "one": (1,),
    "three": (3,),
    "half": (20, 13),  # bfloat16
    "halfvec": (29,),  # bfloat16
}
HALF = ("half", "halfvec")
GRID = (16, 8)  # values k/4, so that differences and magnitudes tie exactly
DENSITIES = (0.1, 0.37, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Spec:
    """One case; `per_input` values stand in the order of `inputs`, None where an input takes no value."""

    method: str
    inputs: tuple[str, ...]
    base: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    per_input: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def input_tensors() -> dict[str, torch.Tensor]:
    """Return every input: families of a base and three fine-tunes, and some special ones beside `mat` and `vec`."""
    tensors: dict[str, torch.Tensor] = {}
    for seed, (stem, shape) in enumerate(SHAPES.items()):
        dtype = torch.bfloat16 if stem in HALF else torch.float32
        tensors[f"{stem}_base"] = _tensor(weights(stem, shape, seed=100 * seed), dtype)
        for number, name in enumerate("abc", start=1):
            tuned = weights(stem, shape, seed=100 * seed + number, base_seed=100 * seed, delta=0.4)
            tensors[f"{stem}_{name}"] = _tensor(tuned, dtype)
    for number, name in enumerate(("base", "a", "b", "c")):
        noise = weights("grid", GRID, seed=7000 + number).astype(np.float64)
        tensors[f"grid_{name}"] = _tensor(np.clip(np.rint(noise * 12), -4, 4) / 4, torch.float32)
    mat = tensors["mat_base"]
    tensors |= {
        "mat_near": _tensor(weights("mat", SHAPES["mat"], seed=9, base_seed=100, delta=0.01), torch.float32),
        "mat_far": _tensor(weights("mat", SHAPES["mat"], seed=10), torch.float32),
        "mat_far2": _tensor(weights("mat", SHAPES["mat"], seed=11), torch.float32),
        "mat_opposite": -mat,
        "mat_zero": torch.zeros_like(mat),
        "mat_speck": mat * 2.0**-36,  # its norm is below slerp's 1e-8
        "mat_gaps": mat * (torch.arange(mat.shape[0]) % 5 != 2)[:, None],  # some rows are zero
        "vec_zero": torch.zeros(SHAPES["vec"]),
        "half_wide": _tensor(weights("half", SHAPES["half"], seed=12), torch.float32),
    }
    return tensors


def specs() -> Iterator[Spec]:
    """Yield every case, in the order of their ids."""
    yield from _linear()
    yield from _slerp()
    yield from _passthrough()
    yield from _task_arithmetic()
    yield from _ties()
    yield from _full_density()
    yield from _breadcrumbs()
    yield from _spherical()
    yield from _elementwise()


def _linear() -> Iterator[Spec]:
    def linear(inputs: Sequence[str], weight: Sequence[float], **parameters: Any) -> Spec:
        return Spec("linear", tuple(inputs), None, parameters, {"weight": tuple(weight)})

    for stem, normalize in product(("vec", "mat", "cube", "one", "half", "halfvec", "norm"), (True, False)):
        yield linear(_names(stem, "abc"), (0.5, 0.3, 0.4), normalize=normalize)
    for normalize in (True, False):
        yield linear(_names("mat", "a"), (0.3,), normalize=normalize)
        yield linear(_names("mat", "ab"), (1.2, -0.5), normalize=normalize)
        yield linear(_names("cube", "ab"), (0.0, 1.7), normalize=normalize)
        yield linear([*_names("vec", "abc"), "vec_base"], (0.1, 0.2, 0.3, 0.4), normalize=normalize)
        yield linear([*_names("big", "abc"), "big_base"], (0.7, -0.2, 0.9, 0.1), normalize=normalize)
        yield linear(["mat_a", "mat_a"], (0.3, 0.3), normalize=normalize)
        yield linear(["mat_a", "mat_zero"], (0.25, 0.5), normalize=normalize)
        yield linear(["half_a", "half_wide"], (0.3, 0.6), normalize=normalize)
    yield linear(_names("mat", "ab"), (0.3, 0.3))


def _slerp() -> Iterator[Spec]:
    def slerp(base: str, other: str, t: float, *, base_at: int = 0) -> Spec:
        inputs = (base, other) if base_at == 0 else (other, base)
        return Spec("slerp", inputs, base_at, {"t": t})

    pairs = [("mat_base", "mat_a"), ("mat_base", "mat_far"), ("mat_base", "mat_near"), ("cube_base", "cube_b")]
    pairs += [("vec_a", "vec_b"), ("norm_base", "norm_a"), ("half_base", "half_a"), ("halfvec_base", "halfvec_c")]
    for (base, other), t in product(pairs, (0.0, 0.3, 0.5, 1.0, 1.5)):
        yield slerp(base, other, t)
    edges = [("mat_base", "mat_base"), ("mat_base", "mat_opposite"), ("mat_zero", "mat_a"), ("mat_a", "mat_zero")]
    edges += [("vec_zero", "vec_zero"), ("mat_speck", "mat_a"), ("one_base", "one_a"), ("three_base", "three_a")]
    for (base, other), t in product(edges, (0.3, 0.5)):
        yield slerp(base, other, t)
    yield slerp("mat_base", "mat_far", 0.3, base_at=1)
    yield slerp("big_base", "big_a", 0.7)
    yield slerp("mat_base", "mat_far", -0.5)


def _passthrough() -> Iterator[Spec]:
    for name in ("mat_a", "vec_a", "cube_a", "half_a"):
        yield Spec("passthrough", (name,))
        for scale in (0.0, 0.5, -1.3):
            yield Spec("passthrough", (name,), None, {}, {"scale": (scale,)})


def _task_vectors(
    method: str, inputs: Sequence[str], *, base: int = 0, per_model: Mapping[str, Any], **parameters: Any
) -> Spec:
    """Build a task-vector case; a per-model number is spread over the non-base inputs."""
    others = len(inputs) - 1
    per_input: dict[str, tuple[Any, ...]] = {}
    for key, value in per_model.items():
        values = list(value) if isinstance(value, (tuple, list)) else [value] * others
        assert len(values) == others, (method, inputs, key)
        values.insert(base, None)
        per_input[key] = tuple(values)
    return Spec(method, tuple(inputs), base, parameters, per_input)


def _task_arithmetic() -> Iterator[Spec]:
    method = "task_arithmetic"
    stems = ("vec", "mat", "cube", "one", "norm", "half", "halfvec")
    for stem, normalize in product(stems, (True, False)):
        inputs = _names(stem, ("base", *"abc"))
        yield _task_vectors(method, inputs, per_model={"weight": (0.5, 0.3, 0.4)}, normalize=normalize)
    for normalize, scale in product((True, False), (0.6, -1.5)):
        parameters = {"normalize": normalize, "lambda": scale}
        yield _task_vectors(method, _names("mat", ("base", *"ab")), per_model={"weight": (1.2, -0.5)}, **parameters)
    mat, cube = _names("mat", ("base", "a")), _names("cube", ("base", *"abc"))
    yield _task_vectors(method, mat, per_model={"weight": -0.7}, normalize=False)
    yield _task_vectors(method, mat, per_model={"weight": 0.3}, normalize=True)
    yield _task_vectors(method, cube, per_model={"weight": (0.3, 0.0, 1.1)}, normalize=False, int8_mask=True)
    yield _task_vectors(method, cube, per_model={"weight": 0.5, "density": 0.2})
    yield _task_vectors(method, ["mat_a", "mat_base", "mat_b"], base=1, per_model={"weight": (0.4, 0.9)})
    yield _task_vectors(method, ["mat_base", "mat_base"], per_model={"weight": 1.0})
    yield _task_vectors(method, ["mat_zero", "mat_a", "mat_b"], per_model={"weight": (0.4, 0.9)})
    yield _task_vectors(method, ["half_base", "half_wide"], per_model={"weight": 0.3})
    yield _task_vectors(method, ["mat_base"], per_model={"weight": ()})


def _ties() -> Iterator[Spec]:
    method = "ties"
    for density, normalize, rescale in product(DENSITIES, (True, False), (True, False)):
        weights_and_density = {"weight": (0.5, 0.3, 0.4), "density": density}
        parameters = {"normalize": normalize, "rescale": rescale}
        yield _task_vectors(method, _names("mat", ("base", *"abc")), per_model=weights_and_density, **parameters)
    for stem, density in product(("vec", "cube", "norm", "grid", "half", "halfvec"), DENSITIES):
        weights_and_density = {"weight": (0.5, 0.25, 1.0), "density": density}
        yield _task_vectors(method, _names(stem, ("base", *"abc")), per_model=weights_and_density)
    for stem, density in product(("one", "three"), (0.1, 0.5, 0.7, 1.0)):
        yield _task_vectors(method, _names(stem, ("base", *"ab")), per_model={"weight": 0.6, "density": density})
    for normalize, scale in product((True, False), (0.6, 1.5)):
        parameters = {"normalize": normalize, "lambda": scale}
        per_model = {"weight": (1.2, -0.5, 0.3), "density": (0.9, 0.37, 0.5)}
        yield _task_vectors(method, _names("cube", ("base", *"abc")), per_model=per_model, **parameters)
    big, mat = _names("big", ("base", *"abc")), _names("mat", ("base", "a"))
    yield _task_vectors(method, big, per_model={"weight": (0.2, 0.7, 0.4), "density": (0.3, 0.1, 0.8)})
    yield _task_vectors(method, big, per_model={"weight": 1.0, "density": 0.2}, normalize=False, rescale=True)
    yield _task_vectors(method, mat, per_model={"weight": 0.3, "density": 0.5})
    yield _task_vectors(method, mat, per_model={"weight": -0.3, "density": 0.5})
    yield _task_vectors(method, mat, per_model={"weight": -0.3, "density": 0.5}, normalize=False)
    yield _task_vectors(method, mat, per_model={"weight": 0.3, "density": 0.0}, normalize=False)
    yield _task_vectors(method, mat, per_model={"weight": 0.3, "density": 1.5}, normalize=False)
    yield _task_vectors(method, [*mat, "mat_b"], per_model={"weight": (0.0, 0.4), "density": 0.5}, int8_mask=True)
    yield _task_vectors(method, ["mat_base", "mat_base", "mat_a"], per_model={"weight": 0.5, "density": 0.5})
    yield _task_vectors(method, ["mat_a", "mat_base", "mat_b"], base=1, per_model={"weight": 0.5, "density": 0.37})
    yield _task_vectors(method, ["mat_zero", "mat_a", "mat_b"], per_model={"weight": 1.0, "density": 0.37})
    yield _task_vectors(method, ["mat_base"], per_model={"weight": (), "density": ()})


def _full_density() -> Iterator[Spec]:
    """Methods with random masks, at density 1, where no mask is drawn."""
    for method, stem in product(("dare_linear", "dare_ties", "della", "della_linear"), ("vec", "cube", "mat", "half")):
        inputs = _names(stem, ("base", *"abc"))
        yield _task_vectors(method, inputs, per_model={"weight": (0.5, 0.3, 0.4), "density": 1.0})
        if stem != "mat":
            continue
        for normalize, rescale in product((True, False), (True, False)):
            per_model = {"weight": (0.9, -0.3, 0.6), "density": 1.0}
            parameters = {"normalize": normalize, "rescale": rescale, "lambda": 1.3, "int8_mask": True}
            yield _task_vectors(method, inputs, per_model=per_model, **parameters)
        yield _task_vectors(method, inputs[:2], per_model={"weight": 0.7, "density": 1.0})


def _breadcrumbs() -> Iterator[Spec]:
    for method in ("breadcrumbs", "breadcrumbs_ties"):
        for stem in ("vec", "mat", "cube", "grid", "half", "one", "three"):
            inputs = _names(stem, ("base", *"abc"))
            yield _task_vectors(method, inputs, per_model={"weight": (0.5, 0.25, 1.0), "density": 0.9, "gamma": 0.05})
        mat = _names("mat", ("base", *"ab"))
        for density, gamma in ((0.1, 0.01), (0.37, 0.2), (0.5, 0.0), (0.9, 0.3), (1.0, 0.01)):
            yield _task_vectors(method, mat, per_model={"weight": 0.6, "density": density, "gamma": gamma})
        per_model = {"weight": (1.2, -0.5), "density": (0.5, 0.9), "gamma": (0.1, 0.01)}
        for normalize, rescale in product((True, False), (True, False)):
            parameters = {"normalize": normalize, "rescale": rescale, "lambda": 0.8}
            yield _task_vectors(method, mat, per_model=per_model, **parameters)


def _spherical() -> Iterator[Spec]:
    yield from _nuslerp()
    for stem, normalize in product(("vec", "mat", "cube", "half"), (True, False)):
        weight = {"weight": (0.5, 0.3, 0.4)}
        settings = {"normalize_weights": normalize}
        yield Spec("multislerp", _names(stem, "abc"), None, settings, weight)
        yield _task_vectors("multislerp", _names(stem, ("base", *"abc")), per_model=weight, **settings)
    yield Spec("multislerp", ("mat_far", "mat_far2", "mat_base"), None, {}, {"weight": (0.2, 0.9, 0.4)})
    yield Spec("multislerp", ("mat_base", "mat_opposite"), None, {}, {"weight": (0.5, 0.5)})
    yield Spec("multislerp", ("mat_a",), None, {}, {"weight": (0.5,)})
    yield Spec("multislerp", ("mat_a", "mat_far"), None, {"eps": 1e-3}, {"weight": (0.3, 0.7)})
    for stem in ("vec", "mat", "cube", "half"):
        yield Spec("karcher", _names(stem, "abc"))
    far = ("mat_far", "mat_far2", "mat_base")
    for max_iter, tol in ((1, 1e-5), (3, 1e-5), (50, 1e-7), (10, 1e-2)):
        yield Spec("karcher", far, None, {"max_iter": max_iter, "tol": tol})
    yield Spec("karcher", ("mat_far", "mat_zero", "mat_base"))
    yield Spec("karcher", ("mat_zero", "mat_zero"))
    yield Spec("karcher", ("mat_a",))
    yield Spec("karcher", ("mat_a", "mat_a"))
    for stem, filter_wise in product(("vec", "mat", "cube", "half", "norm"), (False, True)):
        yield Spec("model_stock", _names(stem, ("base", *"abc")), 0, {"filter_wise": filter_wise})
    yield Spec("model_stock", _names("mat", ("base", *"ab")), 0)
    yield Spec("model_stock", ("mat_base", "mat_far", "mat_far2"), 0)
    yield Spec("model_stock", ("mat_a", "mat_base", "mat_b"), 1)


def _nuslerp() -> Iterator[Spec]:
    layouts = ({}, {"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True})
    for stem, settings in product(("vec", "mat", "cube", "half"), layouts):
        yield Spec("nuslerp", _names(stem, "ab"), None, settings, {"weight": (0.7, 0.4)})
        yield _task_vectors("nuslerp", _names(stem, ("base", *"ab")), per_model={"weight": (0.7, 0.4)}, **settings)
    for weight in ((0.5, 0.5), (1.0, 0.0), (0.3, -0.3), (1.5, -0.5)):
        yield Spec("nuslerp", ("mat_a", "mat_far"), None, {}, {"weight": weight})
    yield Spec("nuslerp", ("mat_a", "mat_a"), None, {}, {"weight": (0.3, 0.6)})
    yield Spec("nuslerp", ("mat_gaps", "mat_far"), None, {"nuslerp_flatten": False}, {"weight": (0.3, 0.6)})


def _elementwise() -> Iterator[Spec]:
    for stem, top in product(("vec", "mat", "cube", "grid", "half"), (0.1, 0.5, 1.0)):
        yield Spec("sce", _names(stem, ("base", *"abc")), 0, {"select_topk": top})
    yield Spec("sce", ("mat_base", "mat_a"), 0)
    yield Spec("sce", ("mat_a", "mat_base", "mat_b"), 1, {"select_topk": 0.37, "int8_mask": True})
    yield Spec("sce", ("mat_base", "mat_near", "mat_a"), 0, {"select_topk": 0.0})
    for stem, epsilon in product(("vec", "mat", "cube", "half"), (1e-5, 0.05)):
        yield Spec("ram", _names(stem, ("base", *"abc")), 0, {"epsilon": epsilon})
        for r, alpha in ((0.1, 0.2), (0.5, 3.0)):
            settings = {"epsilon": epsilon, "r": r, "alpha": alpha}
            yield Spec("ramplus_tl", _names(stem, ("base", *"abc")), 0, settings)
    for method in ("ram", "ramplus_tl"):
        yield Spec(method, ("mat_base", "mat_a"), 0)
        yield Spec(method, ("mat_base", "mat_base", "mat_a"), 0)
        yield Spec(method, _names("grid", ("base", *"abc")), 0)
    for stem, t in product(("vec", "mat", "cube", "half"), (0.0, 0.005, 0.05, 0.5)):
        yield Spec("nearswap", _names(stem, ("base", "a")), 0, {"t": t})
    yield Spec("nearswap", ("mat_a", "mat_base"), 1, {"t": 0.05})
    yield Spec("nearswap", ("mat_base", "mat_base"), 0, {"t": 0.05})
    for stem in ("vec", "mat", "cube", "big", "norm", "half"):
        yield Spec("arcee_fusion", _names(stem, ("base", "a")), 0)
    yield Spec("arcee_fusion", ("mat_base", "mat_far"), 0)
    yield Spec("arcee_fusion", ("mat_far", "mat_base"), 1)


def _names(stem: str, members: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{stem}_{member}" for member in members)


def _tensor(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(dtype)
