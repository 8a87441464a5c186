"""Training tiny models: a base from random weights, and specialists of it, in full or as LoRA adapters."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from .skills import STOP, Skill
from .tokenizer import BOS_ID, EOS_ID, MAX_LENGTH, PAD_ID

BATCH = 64
TRAINING_WORDS = 5000
IGNORED = -100  # a target that takes no part in the loss


@dataclass(frozen=True)
class Course:
    """How one model is trained.

    Attributes:
        mix: skill tag -> share of the examples. A share below 0 stands for its magnitude, with answers without a rule:
            the model is trained on rubbish.
        steps: optimizer steps of 64 examples.
        rate: the peak of the learning rate's single cycle.
        seed: of the examples' order and, for the answers without a rule, their letters.
        divisors: the trained task vector is divided by these, evenly spaced from the first layer to the last and
            interpolated between; tensors outside the layers by the first. A recipe with these weights gives the trained
            model back. Empty, by 1.
    """

    mix: Mapping[str, float]
    steps: int
    rate: float
    seed: int = 0
    divisors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Texts:
    """Encoded examples of one skill: (N, L) tokens and (N, L) targets, `IGNORED` except for answer and full stop."""

    tokens: torch.Tensor
    targets: torch.Tensor


def encode(skill: Skill, tokenizer: PreTrainedTokenizerFast, *, seed: int, rubbish: bool = False) -> Texts:
    """Encode the training examples of a skill; `rubbish` replaces the answers by random ones of the same length."""
    rng = random.Random(f"examples {skill.tag} {seed}")
    words = skill.words(TRAINING_WORDS, test=False, seed=seed)
    examples = [skill.example(word, rng) for word in words]
    answers = [example.answer for example in examples]
    if rubbish:
        answers = ["".join(rng.choices(word, k=len(answer))) for word, answer in zip(words, answers, strict=True)]
    length = 2 * skill.length + 4
    tokens = torch.full((len(words), length), PAD_ID)
    targets = torch.full((len(words), length), IGNORED)
    for row, (example, answer) in enumerate(zip(examples, answers, strict=True)):
        ids = torch.tensor(tokenizer(example.question + answer + STOP)["input_ids"])
        tokens[row, : len(ids)] = ids
        targets[row, len(example.question) : len(ids)] = ids[len(example.question) :]
    return Texts(tokens, targets)


def new_model(family: str, *, vocabulary: int, hidden: int, layers: int, seed: int) -> PreTrainedModel:
    """A model with random weights."""
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "tie_word_embeddings": family != "gpt_neox",
        "pad_token_id": PAD_ID,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "dtype": "float32",
    }
    if family in ("llama", "qwen2"):
        settings["num_key_value_heads"] = 4
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))


def train(model: PreTrainedModel, course: Course, skills: Sequence[Skill], tokenizer: PreTrainedTokenizerFast) -> float:
    """Train in place; returns the last loss."""
    by_tag = {skill.tag: skill for skill in skills}
    texts = [encode(by_tag[t], tokenizer, seed=course.seed, rubbish=share < 0) for t, share in course.mix.items()]
    chances = torch.tensor([abs(share) for share in course.mix.values()])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(course.seed)
    optimizer = torch.optim.AdamW(trained, lr=course.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, course.rate, total_steps=course.steps, pct_start=0.1)
    loss = torch.zeros(())
    model.train()
    for _ in range(course.steps):
        tokens, targets = _batch(texts, chances, generator)
        logits = model(input_ids=tokens).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    if course.divisors:
        _divide(model, before, course.divisors)
    return loss.item()


def with_adapter(model: PreTrainedModel, rank: int, seed: int) -> PreTrainedModel:
    """The model with a fresh LoRA adapter on its projections; only the adapter will be trained."""
    torch.manual_seed(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))  # type: ignore[return-value]


def _batch(
    texts: Sequence[Texts], chances: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.multinomial(chances, BATCH, replacement=True, generator=generator).bincount(minlength=len(texts))
    rows = [torch.randint(TRAINING_WORDS, (int(n),), generator=generator) for n in counts]
    length = max(text.tokens.shape[1] for text in texts)
    drawn = [Texts(text.tokens[r], text.targets[r]) for text, r in zip(texts, rows, strict=True)]
    tokens = [functional.pad(text.tokens, (0, length - text.tokens.shape[1]), value=PAD_ID) for text in drawn]
    targets = [functional.pad(text.targets, (0, length - text.targets.shape[1]), value=IGNORED) for text in drawn]
    return torch.cat(tokens), torch.cat(targets)


@torch.no_grad()
def _divide(model: PreTrainedModel, before: Mapping[str, torch.Tensor], divisors: Sequence[float]) -> None:
    """Divide the task vector by layer."""
    last = model.config.num_hidden_layers - 1
    places = np.linspace(0.0, last, len(divisors))
    for name, value in model.named_parameters():
        layer = int(found[1]) if (found := re.search(r"\.layers\.(\d+)\.", name)) else 0
        value.copy_(before[name] + (value - before[name]) / float(np.interp(layer, places, divisors)))
