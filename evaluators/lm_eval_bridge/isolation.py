"""Context managers that keep lm-eval's side effects from the caller: output, random seeds, generation settings."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from lm_eval import utils
from tqdm.std import tqdm
from transformers import GenerationConfig

_NOISY = ("lm_eval", "transformers", "datasets", "huggingface_hub", "accelerate", "evaluate", "fsspec")
# simple_evaluate's defaults, so that random preprocessing gives the same documents as in a run of lm-eval.
_PYTHON_SEED, _OTHER_SEED = 0, 1234

_templates: Any = utils.env
_compiled = lru_cache(maxsize=4096)(_templates.from_string)


@contextlib.contextmanager
def inside_lm_eval() -> Iterator[None]:
    """Prepare for calls into lm-eval: no output, lm-eval's random seeds, and templates that are compiled only once."""
    with quiet(), seeded_generators(), _cached_templates():
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars, and log lines below ERROR from lm-eval and the libraries under it."""
    original, enabled = tqdm.__init__, logging.Logger.isEnabledFor

    def disabled(self: tqdm, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "disable": True})

    def audible(self: logging.Logger, level: int) -> bool:
        return (level >= logging.ERROR or self.name.partition(".")[0] not in _NOISY) and enabled(self, level)

    tqdm.__init__ = disabled  # the constructor that every library's bar runs; lm-eval has no switch
    # Levels are left alone: changing one clears the caches of all loggers, which takes half a millisecond.
    logging.Logger.isEnabledFor = audible
    try:
        yield
    finally:
        tqdm.__init__, logging.Logger.isEnabledFor = original, enabled


@contextlib.contextmanager
def silent_children() -> Iterator[None]:
    """Discard standard error at the file descriptor: programs that lm-eval starts (git) write to it directly."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


@contextlib.contextmanager
def seeded_generators() -> Iterator[None]:
    """Seed the global random generators as lm-eval does, and restore the caller's state at the end."""
    states = random.getstate(), np.random.get_state()
    # Only the current device: reading the state of another would create a CUDA context on it.
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        random.seed(_PYTHON_SEED)
        np.random.seed(_OTHER_SEED)
        torch.default_generator.manual_seed(_OTHER_SEED)
        if devices:
            torch.cuda.manual_seed(_OTHER_SEED)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@contextlib.contextmanager
def _cached_templates() -> Iterator[None]:
    # lm-eval compiles a task's template for every document and candidate, which takes half the time of a small run.
    before = _templates.from_string
    _templates.from_string = _compiled
    try:
        yield
    finally:
        _templates.from_string = before


@contextlib.contextmanager
def pinned_generation(model: Any, tokenizer: Any) -> Iterator[None]:
    """Generate greedily with the special tokens alone, ignoring the checkpoint's generation_config.

    Otherwise its repetition penalty would change scores, its max_new_tokens would override the task's limit, and a
    model built from its config would score differently from the same weights loaded from disk.
    """
    before = model.generation_config
    model.generation_config = generation_config(model, tokenizer)
    try:
        yield
    finally:
        model.generation_config = before


def generation_config(model: Any, tokenizer: Any) -> GenerationConfig:
    """Return the GenerationConfig used for all scoring; a model may have several end-of-sequence tokens."""
    ends = model.config.get_text_config().eos_token_id
    named = [*(ends if isinstance(ends, (list, tuple)) else [ends]), tokenizer.eos_token_id]
    return GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(dict.fromkeys(end for end in named if end is not None)),
        pad_token_id=tokenizer.pad_token_id,
    )
