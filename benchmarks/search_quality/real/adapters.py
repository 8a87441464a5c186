"""Training LoRA adapters on chats: the loss is that of the answer and of the end of the turn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from .examples import Example

BATCH = 8
SYSTEM = "Answer briefly."  # instead of the template's longer text


@dataclass(frozen=True)
class Course:
    """How one adapter is trained.

    Attributes:
        mix: subject -> share of the examples.
        steps: optimizer steps of 8 examples.
        rate: the peak of the learning rate's single cycle.
        seed: of the examples' order.
    """

    mix: Mapping[str, float]
    steps: int
    rate: float
    seed: int


def train(
    model: PreTrainedModel,
    course: Course,
    examples: Mapping[str, Sequence[Example]],
    tokenizer: PreTrainedTokenizerFast,
) -> float:
    """Train the trainable parameters in place; returns the mean loss of the last ten steps."""
    rng = random.Random(f"batches {course.seed}")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=course.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, course.rate, total_steps=course.steps, pct_start=0.1)
    stacks = {subject: _reshuffled(found, rng) for subject, found in examples.items()}
    losses = []
    model.train()
    for _ in range(course.steps):
        subjects = rng.choices(list(course.mix), weights=list(course.mix.values()), k=BATCH)
        loss = _loss(model, [next(stacks[subject]) for subject in subjects], tokenizer)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return sum(losses[-10:]) / len(losses[-10:])


def _reshuffled(examples: Sequence[Example], rng: random.Random) -> Iterator[Example]:
    """Yield all examples in random order, again and again."""
    while True:
        yield from rng.sample(list(examples), len(examples))


def _loss(model: PreTrainedModel, batch: Sequence[Example], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return the mean loss over the answers' tokens; only their positions go through the output matrix."""
    rows, targets = zip(*(_encoded(example, tokenizer) for example in batch), strict=True)
    tokens = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)  # padding on the right is never attended to
    places = [
        (row, len(ids) - len(answer) - 1 + i)
        for row, (ids, answer) in enumerate(zip(rows, targets, strict=True))
        for i in range(len(answer))
    ]
    causal: Any = model.get_base_model()  # type: ignore[operator]  # of peft's wrapper
    hidden = causal.model(input_ids=tokens).last_hidden_state
    at = torch.tensor(places)
    return functional.cross_entropy(causal.lm_head(hidden[at[:, 0], at[:, 1]]), torch.cat(list(targets)))


def _encoded(example: Example, tokenizer: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens of the whole chat and those of its answer with the end of the turn."""
    chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": example.question}]
    prompt = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    question = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = tokenizer(example.answer + str(tokenizer.eos_token), add_special_tokens=False)["input_ids"]
    return torch.tensor([*question, *answer]), torch.tensor(answer)
