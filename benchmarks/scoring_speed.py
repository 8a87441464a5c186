"""How long a candidate's scoring takes, beside lm-eval's `simple_evaluate` on the same model and items.

    python benchmarks/scoring_speed.py [--repeats 3] [--cases choices,letters] [--hidden 128] [--layers 4]

A random Llama with a vocabulary of 4,096 is scored on made-up tasks, by `simple_evaluate` (one TaskManager and one HFLM
for all runs, bootstrap off, batches of 32) and by the suite, in turns. Both see all
documents, the suite in the blocks of a search. Prints a table in
Markdown: medians of the seconds, their ratio, the share of our time outside of the model's forward pass, and how many
items differ. What happens once per search (loading tasks, tokens, the self-check) is left out on our side.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mergesmith.evaluators import PARTS, EvaluationConfig, ScoringConfig, Suite, TaskConfig, join

VOCABULARY = 4096
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
LETTERS = [" A", " B", " C", " D"]
FRAME = ["\n", "Question:", "Answer:", "A.", "B.", "C.", "D.", *LETTERS]
WORDS = [f" w{i}" for i in range(VOCABULARY - len(SPECIAL) - len(FRAME))]


@dataclass(frozen=True)
class Case:
    """A task, and by how much scoring it should be faster."""

    title: str
    goal: float
    documents: int
    task: dict[str, Any]
    shots: int = 0
    words: tuple[int, int] = (6, 12)
    metric: str = "acc"
    train: int = field(default=40)


CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question:{{question}}\nAnswer:",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
BY_LETTER = {
    **CHOICES,
    "doc_to_text": "Question:{{question}}\n"
    + "".join(f"{letter.strip()}.{{{{choices[{i}]}}}}\n" for i, letter in enumerate(LETTERS))
    + "Answer:",
    "doc_to_choice": LETTERS,
}
FIRST = {"fewshot_config": {"sampler": "first_n"}}
GENERATION = {
    "output_type": "generate_until",
    "doc_to_text": "Question:{{question}}\nAnswer:",
    "doc_to_target": "{{choices[0]}}",
    "target_delimiter": "",
    "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 24},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}],
}
CASES = {
    "choices": Case("4 multi-token choices, 2-shot", 5.0, 500, CHOICES, shots=2),
    "letters": Case("one-token choices, 3-shot", 2.0, 500, BY_LETTER, shots=3),
    "letters_shared": Case("one-token choices, the same 3 shots", 3.0, 500, {**BY_LETTER, **FIRST}, shots=3),
    "generation": Case("24 new tokens, 3-shot", 1.5, 100, GENERATION, shots=3, metric="exact_match"),
    "generation_shared": Case(
        "24 new tokens, the same 3 shots", 1.5, 100, {**GENERATION, **FIRST}, shots=3, metric="exact_match"
    ),
    "perplexity": Case("perplexity", 1.5, 50, ROLLING, words=(100, 300), metric="word_perplexity"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32, help="of lm-eval's scorer")
    parser.add_argument("--token-budget", type=int, default=None)
    parser.add_argument("--scorer", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = new_model(arguments.hidden, arguments.layers)
    print("| case | items | lm-eval, s | ours, s | times faster | goal | outside forward | differing items | scorer |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for name in arguments.cases.split(","):
        with tempfile.TemporaryDirectory() as folder:
            from datasets import config

            config.HF_DATASETS_CACHE = Path(folder) / "cache"
            measure(CASES[name], model, Path(folder), arguments)


def measure(case: Case, model: Any, folder: Path, arguments: argparse.Namespace) -> None:
    write_task(folder, case)
    tokenizer = new_tokenizer()
    config = EvaluationConfig(
        tasks=(TaskConfig(name="task", metric=case.metric),),
        task_path=(folder,),
        scoring=ScoringConfig(scorer=arguments.scorer, token_budget=arguments.token_budget),
    )
    suite = Suite.load(config, tokenizer=tokenizer, root=folder)
    official = harness(model, tokenizer, folder, arguments.batch_size)
    report = suite.check_scorers(lambda: [("the model", lambda: model)])
    ours(suite, model)  # what is slow only once
    official()
    theirs_s, ours_s, forward_s = [], [], []
    theirs, found = {}, {}
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        theirs = official()
        theirs_s.append(time.perf_counter() - start)
        with forward_seconds(model) as seconds:
            start = time.perf_counter()
            found = ours(suite, model)
            ours_s.append(time.perf_counter() - start)
        forward_s.append(sum(seconds))
    differing = sum(not close(found[item], theirs[item]) for item in theirs)
    ratio = statistics.median(theirs_s) / statistics.median(ours_s)
    outside = statistics.median(1 - f / s for f, s in zip(forward_s, ours_s, strict=True))
    print(
        f"| {case.title} | {len(theirs)} | {statistics.median(theirs_s):.2f} | {statistics.median(ours_s):.2f} | "
        f"{ratio:.1f} | {case.goal:g} | {outside:.1%} | {differing} | {report.plan.scorers['task']} |",
        flush=True,
    )


def ours(suite: Suite, model: Any) -> dict[str, Any]:
    """Item -> value, over all parts."""
    weights = object()  # as if a new candidate had been loaded
    scored = [
        join([suite.score(model, block, weights=weights) for block in suite.blocks(part)]).items["task"]
        for part in PARTS
    ]
    return {item: value for part in scored for item, value in zip(part.ids, part.values.tolist(), strict=True)}


def harness(model: Any, tokenizer: Any, folder: Path, batch_size: int) -> Callable[[], dict[str, Any]]:
    """A run of `simple_evaluate` that gives item -> value."""
    from lm_eval import evaluator
    from lm_eval.models import huggingface
    from lm_eval.tasks import TaskManager

    hflm: Any = huggingface.HFLM
    simple_evaluate: Any = evaluator.simple_evaluate
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm = hflm(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32")
    manager = TaskManager(include_path=str(folder), include_defaults=False)

    def run() -> dict[str, Any]:
        with contextlib.redirect_stderr(io.StringIO()):
            results = simple_evaluate(model=lm, tasks=["task"], task_manager=manager, bootstrap_iters=0)
        return {str(row["doc_id"]): row[row["metrics"][0]] for row in results["samples"]["task"]}

    return run


@contextlib.contextmanager
def forward_seconds(model: Any) -> Iterator[list[float]]:
    """Seconds of every forward pass, in the order in which they end."""
    seconds: list[float] = []
    starts: list[float] = []
    before = model.register_forward_pre_hook(lambda *_: starts.append(time.perf_counter()))
    after = model.register_forward_hook(lambda *_: seconds.append(time.perf_counter() - starts[-1]))
    try:
        yield seconds
    finally:
        before.remove()
        after.remove()


def close(one: Any, other: Any) -> bool:
    first, second = (value if isinstance(value, (list, tuple)) else [value] for value in (one, other))
    return all(abs(a - b) <= 1e-6 + 1e-4 * abs(b) for a, b in zip(first, second, strict=True))


def new_tokenizer() -> Any:
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *FRAME, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| ?\S+"), "isolated")  # pyright: ignore[reportAttributeAccessIssue]
    inner.decoder = decoders.Fuse()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def new_model(hidden: int, layers: int) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def write_task(folder: Path, case: Case) -> None:
    draw = random.Random(0)

    def text(low: int, high: int) -> str:
        return "".join(draw.choice(WORDS) for _ in range(draw.randint(low, high)))

    files = {}
    for split, count in (("test", case.documents), ("train", case.train)):
        documents = [
            {
                "question": text(*case.words),
                "choices": [text(2, 6) for _ in range(4)],
                "answer": draw.randrange(4),
            }
            for _ in range(count)
        ]
        files[split] = str(folder / f"{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(document) + "\n" for document in documents))
    task = {"task": "task", "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
    task |= {"fewshot_split": "train", "num_fewshot": case.shots, **case.task}
    (folder / "task.yaml").write_text(yaml.safe_dump(task))


if __name__ == "__main__":
    main()
