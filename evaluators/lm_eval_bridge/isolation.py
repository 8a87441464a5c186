"""Context managers that keep lm-eval's side effects from the caller: output, random seeds, generation settings."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import random
from collections.abc import Iterator
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lm_eval import utils
from torch.utils import collect_env
from tqdm.std import tqdm
from transformers import GenerationConfig
from transformers.utils import chat_template_utils

_NOISY = ("lm_eval", "transformers", "datasets", "huggingface_hub", "accelerate", "evaluate", "fsspec")
# simple_evaluate's defaults, so that random preprocessing gives the same documents as in a run of lm-eval.
_PYTHON_SEED, _OTHER_SEED = 0, 1234

_OF_SAMPLING = frozenset(
    {"do_sample", "temperature", "top_p", "top_k", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}
)
# Special tokens, the length that lm-eval sets, and settings about computing and output.
_WITHOUT_EFFECT = frozenset(
    {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "max_length"}
) | {
    *("transformers_version", "use_cache", "cache_implementation", "cache_config", "return_dict_in_generate"),
    *("output_scores", "output_logits", "output_attentions", "output_hidden_states", "length_penalty"),
}
# Values that mean that a setting is off.
_NEUTRAL = {
    "repetition_penalty": 1,
    "encoder_repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "min_length": 0,
    "diversity_penalty": 0,
    "guidance_scale": 1,
}

_templates: Any = utils.env
_chat_templates: Any = chat_template_utils
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
def without_package_list() -> Iterator[None]:
    """Leave the description of the machine out of lm-eval's results: `pip list` runs for it, one to three seconds."""
    before = collect_env.get_pretty_env_info
    collect_env.get_pretty_env_info = lambda: "not collected"
    try:
        yield
    finally:
        collect_env.get_pretty_env_info = before


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
def fixed_date(date: datetime.date | None) -> Iterator[None]:
    """Let `strftime_now` in chat templates give the start of this day; None leaves the clock alone."""
    if date is None:
        yield
        return
    start = datetime.datetime.combine(date, datetime.time())
    before = _chat_templates.datetime
    _chat_templates.datetime = SimpleNamespace(now=lambda: start)
    try:
        yield
    finally:
        _chat_templates.datetime = before


@contextlib.contextmanager
def pinned_generation(model: Any, tokenizer: Any) -> Iterator[None]:
    """Generate greedily with the checkpoint's other generation settings, as lm-eval does with a folder."""
    before = model.generation_config
    model.generation_config = generation_config(model, tokenizer)
    try:
        yield
    finally:
        model.generation_config = before


def generation_config(model: Any, tokenizer: Any) -> GenerationConfig:
    """Return the GenerationConfig used for scoring: the model's, without sampling and with the tokenizer's end.

    lm-eval adds the tokenizer's end-of-sequence token to the stop strings.
    """
    settings = {k: v for k, v in model.generation_config.to_dict().items() if k not in _OF_SAMPLING and v is not None}
    ends = settings.get("eos_token_id")
    named = [*(ends if isinstance(ends, (list, tuple)) else [ends]), tokenizer.eos_token_id]
    settings |= {
        "do_sample": False,
        "eos_token_id": list(dict.fromkeys(end for end in named if end is not None)),
        "pad_token_id": tokenizer.pad_token_id,
    }
    return GenerationConfig.from_dict(settings)


def generation_settings(model: Any) -> dict[str, Any]:
    """Return the settings of a model's generation_config.json that change greedily decoded answers."""
    settings = model.generation_config.to_diff_dict()
    return {
        key: value
        for key, value in settings.items()
        if key not in _WITHOUT_EFFECT | _OF_SAMPLING
        and not key.startswith("_")  # transformers' notes on where the settings come from
        and value not in (None, False, [], {})
        and _NEUTRAL.get(key) != value
    }
