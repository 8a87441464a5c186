"""Checks that the merged config.json describes the merged layers, which may differ in kind and be reordered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergesmith.errors import UserError, first_line

from ..architectures.architecture import TEXT, Architecture
from ..architectures.quiet_transformers import quiet_transformers
from ..bank.model_bank import ModelBank
from .output_config import layer_settings, merged_config

if TYPE_CHECKING:
    from .merge_plan import MergePlan

# Settings that determine the kind of a layer by its number.
PLACEMENT = re.compile(r"first_k_dense|_(period|offset|interval|step|freq|frequency|pattern)$|num_dense_layers")


@dataclass(frozen=True)
class Layout:
    """Checkpoint shapes and settings that transformers derives from a config.json."""

    shapes: Mapping[str, tuple[int, ...]]
    settings: Mapping[str, Any]


@lru_cache(maxsize=64)
def layout_of(config_json: str, folder: Path, *, trust_remote_code: bool = False) -> Layout | str:
    """Return the layout that the text of a config.json describes, or an error message. Cached for searches.

    `folder` may hold code of the checkpoint.
    """
    from ..architectures.meta_model import (
        config_from,
        skeleton,
    )  # takes seconds to import, and most merges do not need it

    try:
        with quiet_transformers():
            config = config_from(json.loads(config_json), folder, trust_remote_code=trust_remote_code)
        _, saved = skeleton(config, trust_remote_code=trust_remote_code)
        shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
        return Layout(shapes, config.get_text_config(decoder=True).to_dict())
    except Exception as error:  # transformers raises many kinds of errors, all of them about this configuration
        return first_line(error)


def check_layout(plan: MergePlan, bank: ModelBank) -> None:
    """Compare the merged layers with those that the merged config.json describes, if it differs from the donor's.

    Raises:
        UserError: transformers would build other layers than the recipe merges.
    """
    donor = bank[plan.donor]
    if plan.layers == tuple((plan.donor, layer) for layer in range(donor.architecture.num_layers)):
        return
    config = merged_config(plan, bank)
    if {**config, "dtype": None} == {**donor.config, "dtype": None}:
        return
    described = json.dumps({**config, "dtype": "float32"}, sort_keys=True)
    layout = layout_of(described, donor.folder, trust_remote_code=bank.trust_remote_code)
    reason = layout if isinstance(layout, str) else _difference(plan, bank, layout)
    if reason is not None:
        placed = ", ".join(f"{key}: {value!r}" for key, value in donor.config.items() if _places(key, value))
        because = f"; the configuration of '{plan.donor}' places kinds of layers by number ({placed})" if placed else ""
        raise UserError(f"recipe: no configuration describes the layers in this order: {reason}{because}")


def _places(key: str, value: Any) -> bool:
    return bool(PLACEMENT.search(key)) and isinstance(value, int)


def _difference(plan: MergePlan, bank: ModelBank, layout: Layout) -> str | None:
    """Return a description of the first difference, or None."""
    for key, wanted in layer_settings(plan, bank).items():
        if list(layout.settings.get(key) or ()) != wanted:
            return f"{key} would have to be {wanted}, but transformers makes it {layout.settings.get(key)}"
    architecture = bank[plan.donor].architecture
    merged = _layers(architecture, {t.name: bank[t.inputs[0][0]].entries[t.inputs[0][1]].shape for t in plan.tasks})
    described = _layers(architecture, layout.shapes)
    for layer, (model, source) in enumerate(plan.layers):
        one, other = merged.get(layer, {}), described.get(layer, {})
        names = sorted(name for name in {**one, **other} if one.get(name) != other.get(name))
        if names:
            placed = f"layer {layer} is layer {source} of '{model}'"
            return f"{placed}, which differs from what config.json describes there in {', '.join(names[:3])}"
    return None


def _layers(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> dict[int, dict[str, tuple[int, ...]]]:
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        layer = architecture.layer(name)
        if layer is not None and architecture.part(name) == TEXT:
            layers.setdefault(layer, {})[name] = shape
    return layers
