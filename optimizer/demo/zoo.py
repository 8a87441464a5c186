"""A tiny base model and its specialists, trained on the CPU in well under a minute.

The base knows every skill but ends its answers with `;`, so it fails every task. Each specialist has learned to end
with `.` on one skill only; a little of the base's training text preserves the `;` on the others. Neither is good at the
tasks. Task vectors added in the right proportions replace the ending and keep the skills; the proportions are unequal
because the specialists were trained with different strength.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .skills import HABIT, SKILLS, STOP
from .tokenizer import BOS, EOS, MAX_LENGTH, PAD, SPECIALS

BATCH = 64
BASE_LEARNING_RATE = 3e-3
BASE_SHARES = (1.0, 1.2, 1.0)  # of each skill; reversing is the hardest
TUNING_LEARNING_RATES = (1.2e-3, 4e-4, 3.5e-4)  # of each specialist: task vectors of norm about 5, 3 and 2.5
HABIT_SHARE = 0.05  # share of the base's text in a specialist's training


@dataclass(frozen=True)
class DemoSize:
    """The size of the demo; with the defaults it takes four minutes on two cores.

    Attributes:
        items: documents per task.
        train_words: words to train on.
        hidden: width of the model.
        layers: depth of the model.
        base_steps: training steps of the base.
        tune_steps: training steps of each specialist, in the order of `SKILLS`.
    """

    items: int = 400
    train_words: int = 12000
    hidden: int = 96
    layers: int = 3
    base_steps: int = 450
    tune_steps: tuple[int, int, int] = (80, 100, 80)


@dataclass(frozen=True)
class Texts:
    """Encoded training texts: S skills ending with `;`, then the same S skills ending with `.`; N words each.

    Attributes:
        tokens: (2S, N, length) token ids, padded on the right.
        targets: (2S, N, length - 1) the ids to predict, -100 at positions without a loss.
    """

    tokens: torch.Tensor
    targets: torch.Tensor


def train_zoo(
    words: tuple[str, ...],
    tokenizer: PreTrainedTokenizerFast,
    *,
    size: DemoSize,
    seed: int,
    threads: int,
    log: Callable[[str], None],
) -> dict[str, LlamaForCausalLM]:
    """Train `base` and one specialist per skill; the process's random state and thread count are restored."""
    texts = encode_texts(words, tokenizer)
    with _torch_settings(seed, threads):
        base = _new_model(tokenizer, size)
        habits = [*BASE_SHARES, *[0.0] * len(SKILLS)]
        _train(base, texts, habits, size.base_steps, BASE_LEARNING_RATE, seed=_seed(seed, 0), name="base", log=log)
        zoo = {"base": base}
        for i, skill in enumerate(SKILLS):
            shares = [HABIT_SHARE / len(SKILLS)] * len(SKILLS) + [0.0] * len(SKILLS)
            shares[len(SKILLS) + i] = 1 - HABIT_SHARE
            model, steps, rate = copy.deepcopy(base), size.tune_steps[i], TUNING_LEARNING_RATES[i]
            _train(model, texts, shares, steps, rate, seed=_seed(seed, 1 + i), name=skill.name, log=log)
            zoo[skill.name] = model
    return zoo


def encode_texts(words: tuple[str, ...], tokenizer: PreTrainedTokenizerFast) -> Texts:
    """Encode question and answer for every skill, ending and word; the loss covers the answer and its ending."""
    ends = [(skill, end) for end in (HABIT, STOP) for skill in SKILLS]
    pairs = [(skill.question(word), skill.answer(word) + end) for skill, end in ends for word in words]
    length = max(len(question) + len(answer) for question, answer in pairs)
    rows = tokenizer([q + a for q, a in pairs], padding="max_length", max_length=length, padding_side="right")
    tokens = torch.tensor(rows["input_ids"])
    starts = torch.tensor([[len(question)] for question, _ in pairs])
    stops = torch.tensor([[len(question) + len(answer)] for question, answer in pairs])
    place = torch.arange(length)
    targets = tokens.masked_fill((place < starts) | (place >= stops), -100)[:, 1:]
    shape = (len(ends), len(words))
    return Texts(tokens.view(*shape, length), targets.reshape(*shape, length - 1))


@contextmanager
def _torch_settings(seed: int, threads: int) -> Iterator[None]:
    """Fix the thread count and the CPU's global generator, which initializes a new model; restore both after."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_seed(seed, 0))
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _seed(seed: int, part: int) -> int:
    return 1000 * seed + part


def _new_model(tokenizer: PreTrainedTokenizerFast, size: DemoSize) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=2 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=SPECIALS.index(PAD),
        bos_token_id=SPECIALS.index(BOS),
        eos_token_id=SPECIALS.index(EOS),
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def _train(
    model: LlamaForCausalLM,
    texts: Texts,
    shares: list[float],
    steps: int,
    rate: float,
    *,
    seed: int,
    name: str,
    log: Callable[[str], None],
) -> None:
    """Train in place on texts drawn by `shares` (2S,), with AdamW and one cycle of the learning rate."""
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    chances = torch.tensor(shares)
    loss = torch.zeros(())
    model.train()
    for _ in range(steps):
        kind = torch.multinomial(chances, BATCH, replacement=True, generator=generator)
        word = torch.randint(texts.tokens.shape[1], (BATCH,), generator=generator)
        logits = model(input_ids=texts.tokens[kind, word][:, :-1]).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), texts.targets[kind, word].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    log(f"trained {name}: {steps} steps, loss {loss.item():.3f}, {time.perf_counter() - start:.1f} s")
