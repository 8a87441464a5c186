"""The transformers class that a configuration's model is built as.

`AutoModelForCausalLM` builds a language model from any configuration: a classifier's weights would lose their head, and
an encoder-decoder its encoder. So the class that config.json names under `architectures` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel
from transformers.models.auto import modeling_auto

from mergesmith.errors import UserError

from .quiet_transformers import quiet_transformers

LANGUAGE_MODELS = frozenset(
    {
        *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(),
        *modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values(),
    }
)
# Ends of the names of language models, old ones and those of code outside transformers included.
LANGUAGE_MODEL_ENDS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class ModelClass:
    """An auto class or a model class of transformers.

    Attributes:
        name: the class name that config.json gives, or that of the auto class if it gives none.
        loader: the class; it has `from_pretrained`.
        is_language_model: whether it predicts the next token, so that lm-eval can score it.
    """

    name: str
    loader: Any
    is_language_model: bool

    def build(self, config: Any, *, dtype: Any = None, trust_remote_code: bool = False) -> Any:
        """Return a new model of this configuration, with weights as transformers initializes them."""
        dtypes = {} if dtype is None else {"dtype": dtype}
        if issubclass(self.loader, PreTrainedModel):
            return self.loader._from_config(config, **dtypes)
        return self.loader.from_config(config, trust_remote_code=trust_remote_code, **dtypes)


def model_class(config: Any, *, trust_remote_code: bool = False) -> ModelClass:
    """Return the class of a configuration's model.

    Raises:
        UserError: `architectures` names a class that transformers does not have.
    """
    auto = AutoModelForCausalLM if text_key(config) is None else AutoModelForImageTextToText
    named = next(iter(getattr(config, "architectures", None) or ()), None)
    if named is None or named in LANGUAGE_MODELS:
        return ModelClass(named or auto.__name__, auto, True)
    codes = getattr(config, "auto_map", None) or {}
    if trust_remote_code and codes:
        mapped = next((key for key, code in codes.items() if str(code).rpartition(".")[2] == named), auto.__name__)
        return ModelClass(named, getattr(transformers, mapped, auto), mapped == auto.__name__)
    found = getattr(transformers, named, None)
    if isinstance(found, type) and issubclass(found, PreTrainedModel):
        if _is_tied_body(found, config):
            return ModelClass(named, auto, True)
        return ModelClass(named, found, False)
    if named.endswith(LANGUAGE_MODEL_ENDS):
        return ModelClass(named, auto, True)
    raise UserError(
        f"its class is {named} (architectures in config.json), which transformers does not have, so its tensors are "
        "unknown; give --trust-remote-code if the checkpoint holds the code of that class, or name a class of "
        "transformers that has the same tensors in a copy of config.json"
    )


def text_key(config: Any) -> str | None:
    """Return the key of the text decoder in the configuration of a multi-part model; None for a text model."""
    text = config.get_text_config(decoder=True)
    return next((key for key in config.sub_configs if getattr(config, key, None) is text), None)


def _is_tied_body(found: type, config: Any) -> bool:
    """Whether a class is a language model without its head, which shares all its tensors with the rest."""
    bodies = modeling_auto.MODEL_MAPPING_NAMES.get(config.model_type, ())
    if found.__name__ not in ((bodies,) if isinstance(bodies, str) else bodies):
        return False
    if config.model_type not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or not config.tie_word_embeddings:
        return False
    with quiet_transformers(), torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config)
    head = [name for name in whole.state_dict() if not name.startswith(f"{whole.base_model_prefix}.")]
    return set(head) <= set(whole.all_tied_weights_keys)
