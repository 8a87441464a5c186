"""A transformers model on the meta device (without weights), and the architecture derived from it.

Importing this module imports transformers' models, which takes seconds: see `cache.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.core_model_loading import revert_weight_conversion
from transformers.pytorch_utils import Conv1D

from mergesmith.errors import UserError, first_line

from .architecture import Architecture
from .canonical_names import StoredNames
from .quiet_transformers import quiet_transformers
from .transformers_names import LiveNames
from .weight_views import renamed_only


def architecture_of(folder: Path, reference: str, *, trust_remote_code: bool = False) -> Architecture:
    """Return the architecture that the config.json of a checkpoint folder describes.

    Raises:
        UserError: there is no config.json, or it describes no causal language model known to transformers.
    """
    config = load_config(folder, reference, trust_remote_code=trust_remote_code)
    return _architecture(config, reference, trust_remote_code=trust_remote_code)


def architecture_from(
    settings: Mapping[str, Any], folder: Path, reference: str, *, trust_remote_code: bool = False
) -> Architecture:
    """Return the architecture that the content of a config.json describes; see `config_from`.

    Raises:
        UserError: it describes no causal language model known to transformers.
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
        model, saved = skeleton(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds of errors, all of them about this configuration
        raise UserError(
            f"model '{reference}': config.json describes no causal language model: {first_line(error)}"
        ) from None
    text = config.get_text_config(decoder=True)
    if getattr(text, "num_hidden_layers", None) is None:
        raise UserError(
            f"model '{reference}': its configuration ({config.model_type}) has no num_hidden_layers; such "
            "models are not supported yet"
        )
    # transformers names tied tensors by module; files may use other names.
    tied: dict[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})
    state = model.state_dict()
    live_names = renamed_only(model, {name: state[name] for name in (*tied, *tied.values())})
    renamed = {live: name for name, live in (live_names or {}).items()}
    ties = {renamed.get(one, one): renamed.get(other, other) for one, other in tied.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items() if name not in ties}
    transposed = {id(part.weight) for part in model.modules() if isinstance(part, Conv1D)}
    return Architecture(
        shapes=shapes,
        ties=ties,
        names=StoredNames(shapes, ties, model.base_model_prefix, lambda: LiveNames(model)),
        num_layers=int(text.num_hidden_layers),
        layer_key=text.attribute_map.get("num_hidden_layers", "num_hidden_layers"),
        vocab_size=int(getattr(text, "vocab_size", None) or 0),
        quantized=getattr(config, "quantization_config", None) is not None,
        settings=json.loads(json.dumps(text.to_dict(), default=str)),
        text_key=text_key(config),
        transposed=frozenset(name for name, tensor in saved.items() if id(tensor) in transposed),
        vocabulary=tuple(name for name in _vocabulary_names(model, saved) if name not in ties),
        vocabulary_key=text.attribute_map.get("vocab_size", "vocab_size"),
    )


def _vocabulary_names(model: Any, saved: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Return the checkpoint names of the input embedding, the head and the head's bias."""
    head = model.get_output_embeddings()
    parts = (model.get_input_embeddings().weight, *(() if head is None else (head.weight, getattr(head, "bias", None))))
    names = (name for part in parts for name, tensor in saved.items() if tensor is part)
    return tuple(dict.fromkeys(names))


def text_key(config: Any) -> str | None:
    """Return the key of the text decoder in the configuration of a multi-part model; None for a text model."""
    text = config.get_text_config(decoder=True)
    return next((key for key in config.sub_configs if getattr(config, key, None) is text), None)


def model_class(config: Any) -> Any:
    """Return the transformers auto class that builds a configuration's model."""
    return AutoModelForCausalLM if text_key(config) is None else AutoModelForImageTextToText


def skeleton(config: Any, *, trust_remote_code: bool = False) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return a configuration's model on the meta device, and its tensors by canonical name."""
    with quiet_transformers(), torch.device("meta"):
        model = model_class(config).from_config(config, trust_remote_code=trust_remote_code)
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
