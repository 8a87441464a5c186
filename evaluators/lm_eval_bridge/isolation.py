"""What a call into lm-eval must not leave behind: bars, log lines, reseeded generators, generation settings."""

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
# simple_evaluate's own defaults, so that tasks with random preprocessing see the same numbers as in a run of lm-eval.
_PYTHON_SEED, _OTHER_SEED = 0, 1234

_templates: Any = utils.env
_compiled = lru_cache(maxsize=4096)(_templates.from_string)


@contextlib.contextmanager
def inside_lm_eval() -> Iterator[None]:
    """Everything a call into lm-eval needs: quiet, its own generators, and templates that are compiled once."""
    with quiet(), seeded_generators(), _cached_templates():
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no log lines below ERROR from lm-eval and the libraries under it, until the block ends."""
    original, enabled = tqdm.__init__, logging.Logger.isEnabledFor

    def disabled(self: tqdm, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "disable": True})

    def audible(self: logging.Logger, level: int) -> bool:
        return (level >= logging.ERROR or self.name.partition(".")[0] not in _NOISY) and enabled(self, level)

    tqdm.__init__ = disabled  # the one place that every library's bar goes through; lm-eval has no switch of its own
    # Levels stay as the user has them: to change one clears what all loggers remember, which takes half a millisecond.
    logging.Logger.isEnabledFor = audible
    try:
        yield
    finally:
        tqdm.__init__, logging.Logger.isEnabledFor = original, enabled


@contextlib.contextmanager
def silent_children() -> Iterator[None]:
    """Nothing reaches standard error: programs that lm-eval starts (git, for its log) write there past Python."""
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
    """Seed the global random generators as lm-eval does, and give the caller's state back at the end."""
    states = random.getstate(), np.random.get_state()
    # Only a device in use: asking the others for their state would open a context on each of them.
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
    # lm-eval compiles a task's template again for every document and every candidate: half the time of a small run.
    before = _templates.from_string
    _templates.from_string = _compiled
    try:
        yield
    finally:
        _templates.from_string = before


@contextlib.contextmanager
def pinned_generation(model: Any, tokenizer: Any) -> Iterator[None]:
    """Greedy generation from special tokens alone, whatever the checkpoint's generation_config says.

    Otherwise a repetition penalty there changes scores, a max_new_tokens there overrides the task's limit, and a
    model built from its config scores differently from the same weights loaded from disk.
    """
    before = model.generation_config
    model.generation_config = generation_config(model, tokenizer)
    try:
        yield
    finally:
        model.generation_config = before


def generation_config(model: Any, tokenizer: Any) -> GenerationConfig:
    """The one GenerationConfig that everything is scored with; a model may have several end tokens."""
    ends = model.config.get_text_config().eos_token_id
    named = [*(ends if isinstance(ends, (list, tuple)) else [ends]), tokenizer.eos_token_id]
    return GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(dict.fromkeys(end for end in named if end is not None)),
        pad_token_id=tokenizer.pad_token_id,
    )
