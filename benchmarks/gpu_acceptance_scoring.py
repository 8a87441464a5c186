"""Scoring of gpu_acceptance.py: log-likelihoods and generation of a random Llama, by the loop and by CUDA graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gpu_acceptance_report import Report, freed, seconds
from transformers import AutoModelForCausalLM, LlamaConfig

from mergesmith.evaluators.inference.batches import make_batches
from mergesmith.evaluators.inference.cuda_graphs import GraphCache, GraphDecoder
from mergesmith.evaluators.inference.generate import LoopDecoder, Prompt, generate, prompt_batches
from mergesmith.evaluators.inference.likelihood import log_likelihoods
from mergesmith.evaluators.inference.prefix_cache import PrefixCaches
from mergesmith.evaluators.inference.rows import Answer, TokenRow

UNLIMITED = 1 << 30


class FixedLengths:
    """Stop conditions under which rows end after fixed lengths, so that batches shrink."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lengths = [limit, limit // 2, limit // 3 + 2]

    def reached(self, rows: Any) -> list[bool]:
        """Return which rows end here."""
        return [len(row) >= self._lengths[row[0] % len(self._lengths)] for row in rows]

    def text(self, tokens: Any) -> str:
        """Return the tokens as numbers."""
        return " ".join(map(str, tokens))


def check_scoring(report: Report) -> None:
    """Measure log-likelihoods with cuDNN attention on and off, and compare generation by the loop and by graphs."""
    model = _model(report)
    for cudnn in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        for answers in (1, 4):
            _likelihoods(report, model, answers, f"cuDNN attention {'on' if cudnn else 'off'}")
        freed(report.device)
    _generation(report, model)


def _model(report: Report) -> Any:
    hidden, inner, layers, heads, vocabulary = (64, 128, 2, 4, 512) if report.quick else (4096, 14336, 32, 32, 128256)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2 if report.quick else 8,
        vocab_size=vocabulary,
    )
    with torch.device(report.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.eval().requires_grad_(False)


def _tokens(draw: np.random.Generator, model: Any, count: int) -> tuple[int, ...]:
    return tuple(draw.integers(0, model.config.vocab_size, count).tolist())


def _likelihoods(report: Report, model: Any, answers: int, label: str) -> None:
    draw, batches = np.random.default_rng(0), []
    for rows, length in ((4, 60), (7, 45)) if report.quick else ((16, 1000), (40, 400), (13, 1210)):
        made = [
            TokenRow(
                _tokens(draw, model, length - 8 * answers),
                tuple(Answer(i * answers + b, _tokens(draw, model, 9)) for b in range(answers)),
            )
            for i in range(rows)
        ]
        batches += make_batches(made, tokens=UNLIMITED, logits=UNLIMITED, device=report.device)
    read = sum(batch.tokens.numel() for batch in batches)
    took = seconds(lambda: log_likelihoods(model, batches, PrefixCaches(model)), report.device)
    report.info(f"{answers} answers per row, {label}: {read / took:,.0f} tokens/s")


def _generation(report: Report, model: Any) -> None:
    draw, (count, length, limit) = np.random.default_rng(1), (6, 24, 8) if report.quick else (48, 500, 64)
    stops: Any = FixedLengths(limit)
    prompts = [Prompt(i, _tokens(draw, model, length - i % 7), stops) for i in range(count)]
    batches, graphs, answers = prompt_batches(prompts, tokens=UNLIMITED, device=report.device), GraphCache(), {}
    decoders = {
        "loop": lambda batch: LoopDecoder(model, batch, PrefixCaches(model)),
        "graphs": lambda batch: GraphDecoder(model, batch, PrefixCaches(model), graphs),
    }
    for name, begin in decoders.items():

        def run(name: str = name, begin: Any = begin) -> None:
            answers[name] = generate(batches, begin, frozenset())

        took = seconds(run, report.device)
        new = sum(answer.length for answer in answers[name].values())
        report.info(f"generation by {name}: {new / took:,.0f} tokens/s, {1e3 * took / limit:.1f} ms per step")
    # Random weights have near ties everywhere, so only the first tokens of most answers must agree.
    early = sum(answers["loop"][i].text.split()[:2] != answers["graphs"][i].text.split()[:2] for i in range(count))
    report.check(early <= count // 4, f"loop and graphs: {early} of {count} answers differ within two tokens")
