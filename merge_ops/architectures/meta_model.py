"""A transformers model on the meta device (without weights), and the architecture derived from it.

Importing this module imports transformers' models, which takes seconds: see `cache.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.core_model_loading import revert_weight_conversion
from transformers.pytorch_utils import Conv1D

from mergesmith.errors import UserError, first_few, first_line

from .architecture import ENCODER, TEXT, Architecture
from .canonical_names import StoredNames
from .model_class import ModelClass, model_class, text_key
from .quiet_transformers import quiet_transformers
from .transformers_names import LiveNames
from .weight_views import renamed_only


def derive_architecture(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Architecture:
    """Return the architecture that the config.json of a checkpoint folder describes, from transformers, without cache.

    Raises:
        UserError: there is no config.json, or it describes no model known to transformers.
    """
    config = load_config(folder, reference, trust_remote_code=trust_remote_code)
    return _architecture(config, reference, trust_remote_code=trust_remote_code)


def architecture_from(
    settings: Mapping[str, Any], folder: Path, reference: str, *, trust_remote_code: bool = False
) -> Architecture:
    """Return the architecture that the content of a config.json describes; see `config_from`.

    Raises:
        UserError: it describes no model known to transformers.
    """
    with quiet_transformers():
        config = config_from(settings, folder, trust_remote_code=trust_remote_code)
    return _architecture(config, reference, trust_remote_code=trust_remote_code)


def config_from(settings: Mapping[str, Any], folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return the transformers configuration with these settings; `folder` may hold code of the checkpoint."""
    if not trust_remote_code or "auto_map" not in settings:
        return AutoConfig.for_model(**settings)
    kind = type(AutoConfig.from_pretrained(folder, trust_remote_code=True))
    config = kind(**{key: value for key, value in settings.items() if key != "model_type"})
    config.name_or_path = str(folder)
    return config


def _architecture(config: Any, reference: str, *, trust_remote_code: bool) -> Architecture:
    try:
        kind = model_class(config, trust_remote_code=trust_remote_code)
        model, saved = skeleton(config, trust_remote_code=trust_remote_code)
    except UserError as error:
        raise UserError(f"model '{reference}': {error}") from None
    except Exception as error:  # transformers raises many kinds of errors, all of them about this configuration
        raise UserError(
            f"model '{reference}': config.json describes no model that transformers can build: {first_line(error)}"
        ) from None
    if getattr(config.get_text_config(decoder=True), "num_hidden_layers", None) is None:
        raise UserError(
            f"model '{reference}': its configuration ({config.model_type}, {kind.name}) has no num_hidden_layers; such "
            "models are not supported yet"
        )
    return _complete(_described(config, kind, model, saved), reference)


def _described(config: Any, kind: ModelClass, model: Any, saved: Mapping[str, torch.Tensor]) -> Architecture:
    text = config.get_text_config(decoder=True)
    # transformers names tied tensors by module; files may use other names.
    tied: dict[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})
    state = model.state_dict()
    live_names = renamed_only(model, {name: state[name] for name in (*tied, *tied.values())})
    renamed = {live: name for name, live in (live_names or {}).items()}
    ties = {renamed.get(one, one): renamed.get(other, other) for one, other in tied.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items() if name not in ties}
    transposed = {id(part.weight) for part in model.modules() if isinstance(part, Conv1D)}
    of_decoder = [key for key in ("decoder_layers", "num_decoder_layers") if hasattr(config, key)]
    return Architecture(
        shapes=shapes,
        ties=ties,
        names=StoredNames(shapes, ties, model.base_model_prefix, lambda: LiveNames(model)),
        num_layers=int(text.num_hidden_layers),
        layer_key=(*of_decoder, text.attribute_map.get("num_hidden_layers", "num_hidden_layers"))[0],
        vocab_size=int(getattr(text, "vocab_size", None) or 0),
        quantized=getattr(config, "quantization_config", None) is not None,
        settings=json.loads(json.dumps(text.to_dict(), default=str)),
        text_key=text_key(config),
        transposed=frozenset(name for name, tensor in saved.items() if id(tensor) in transposed),
        vocabulary=tuple(name for name in _vocabulary_names(model, saved) if name not in ties),
        vocabulary_key=text.attribute_map.get("vocab_size", "vocab_size"),
        class_name=kind.name,
        is_language_model=kind.is_language_model,
        encoder_decoder=any(ENCODER.search(name) for name in shapes) and bool(config.is_encoder_decoder),
    )


def _complete(architecture: Architecture, reference: str) -> Architecture:
    """Return the architecture, with the number of decoder layers that the tensors show.

    Raises:
        UserError: a tensor's name has a number like a layer's, but the model has no such layer.
    """
    if architecture.encoder_decoder:
        layers = [architecture.layer(n) for n in architecture.shapes if architecture.part(n) == TEXT]
        architecture = replace(architecture, num_layers=1 + max((n for n in layers if n is not None), default=-1))
    beyond = [
        name
        for name in architecture.shapes
        if (architecture.layer(name) or 0) >= max(1, architecture.depth(architecture.part(name)))
    ]
    if beyond:
        raise UserError(
            f"model '{reference}': {architecture.class_name} has {architecture.num_layers} layers, but also tensors "
            f"with higher numbers ({first_few(beyond)}); such models are not supported yet"
        )
    return architecture


def _vocabulary_names(model: Any, saved: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Return the checkpoint names of the input embedding, the head and the head's bias."""
    head = model.get_output_embeddings()
    parts = (
        getattr(model.get_input_embeddings(), "weight", None),
        *((head.weight, getattr(head, "bias", None)) if head else ()),
    )
    names = (name for part in parts for name, tensor in saved.items() if tensor is part)
    return tuple(dict.fromkeys(names))


def skeleton(config: Any, *, trust_remote_code: bool = False) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return a configuration's model on the meta device, and its tensors by canonical name."""
    with quiet_transformers(), torch.device("meta"):
        kind = model_class(config, trust_remote_code=trust_remote_code)
        model = kind.build(config, trust_remote_code=trust_remote_code)
        return model, revert_weight_conversion(model, model.state_dict(keep_vars=True))


def load_config(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Any:
    """Return the transformers configuration of a checkpoint folder.

    Raises:
        UserError: config.json is missing or cannot be used.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"model '{reference}': no config.json in {folder}; a checkpoint folder has one")
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds of errors, all of them about this file
        raise UserError(f"model '{reference}': config.json cannot be used: {first_line(error)}") from None
