"""Real lm-eval tasks and a tiny Llama for the tests of this folder."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mergesmith.evaluators import EvaluationConfig, ScoringConfig, Suite, join

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 \n.:?=+-<>|/"
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

# A value that moves with every character of the answer, so that a different generation cannot go unnoticed.
SCORING = """
def graded(doc, results):
    return {"graded": sum((i + 1) * ord(c) for i, c in enumerate(results[0])) % 97 / 97}


def spread(items):
    return max(items) - min(items)
"""


def make_tokenizer() -> Any:
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
    tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
    wrapped: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def make_model(seed: int = 0, **overrides: Any) -> Any:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + len(LETTERS),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
    }
    return LlamaForCausalLM(LlamaConfig(**settings | overrides)).eval()


def documents(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    docs = []
    for i in range(count):
        words = ["".join(draw.choice("abcdefgh") for _ in range(draw.randint(1, 6))) for _ in range(4)]
        docs.append({"question": f"{seed}.{i} {words[0]}", "choices": words, "answer": draw.randrange(4)})
    return docs


KINDS: dict[str, dict[str, Any]] = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "q: {{question}}\na:",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    },
    "likelihood": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}} =",
        "doc_to_target": "{{choices[0]}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}} {{choices[1]}} {{choices[2]}}",
        "metric_list": [
            {"metric": name, "aggregation": how, "higher_is_better": False}
            for name, how in (("word_perplexity", "weighted_perplexity"), ("bits_per_byte", "bits_per_byte"))
        ],
    },
    "generation": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}} =",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 6},
        "filter_list": [
            {
                "name": "letters",
                "filter": [{"function": "regex", "regex_pattern": "([a-z]+)"}, {"function": "take_first"}],
            },
            {"name": "plain", "filter": [{"function": "take_first"}]},
        ],
        "metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True},
        ],
    },
}


def write_task(
    folder: Path, name: str, kind: str, *, docs: Sequence[dict[str, Any]], train: Sequence[Any] = (), **overrides: Any
) -> None:
    """Write a task's YAML file, `scoring.py` and its JSONL files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scoring.py").write_text(SCORING)
    files = {}
    for split, rows in {"test": docs, "train": train}.items():
        if rows:
            path = folder / f"{name}_{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            files[split] = str(path)
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        **({"fewshot_split": "train"} if train else {}),
        **KINDS[kind],
        **overrides,
    }
    text = yaml.safe_dump(config, sort_keys=False).replace("'!function scoring.", "!function 'scoring.")
    (folder / f"{name}.yaml").write_text(text)


def graded(**overrides: Any) -> dict[str, Any]:
    """Return overrides that make a generation task score each answer by all of its characters."""
    metric = {"metric": "graded", "aggregation": "mean", "higher_is_better": True}
    return {"process_results": "!function scoring.graded", "metric_list": [metric], **overrides}


def load(root: Path, tasks: Sequence[Any], **settings: Any) -> Suite:
    """Return a suite of tasks from `root`/tasks; settings are keys of `scoring` or of `EvaluationConfig`."""
    tokenizer = settings.pop("tokenizer", None) or make_tokenizer()
    allowed = settings.pop("allow_code_execution", False)
    scoring = {"block_items": 64} | {key: settings.pop(key) for key in ScoringConfig.model_fields if key in settings}
    config = EvaluationConfig.model_validate({"tasks": tasks, "task_path": ["tasks"], "scoring": scoring, **settings})
    return Suite.load(config, tokenizer=tokenizer, root=root, allow_code_execution=allowed)


def score_part(suite: Suite, model: Any, part: Any) -> Any:
    return join([suite.score(model, block) for block in suite.blocks(part)])


def all_parts(suite: Suite, model: Any) -> dict[str, dict[str, Any]]:
    """Return leaf name -> item id -> value, over all three parts."""
    found: dict[str, dict[str, Any]] = {}
    for part in ("search", "select", "report"):
        for leaf, items in score_part(suite, model, part).items.items():
            found.setdefault(leaf, {}).update(zip(items.ids, items.values.tolist(), strict=True))
    return found


def harness_run(model: Any, tasks: Sequence[str], folder: Path, *, batch_size: int = 16, **settings: Any) -> Any:
    """Return the results of lm-eval's `simple_evaluate`, as a user would call it, on the same live model."""
    from lm_eval import evaluator
    from lm_eval.models import huggingface
    from lm_eval.tasks import TaskManager

    simple_evaluate: Any = evaluator.simple_evaluate
    hflm: Any = huggingface.HFLM
    return simple_evaluate(
        model=hflm(pretrained=model, tokenizer=make_tokenizer(), batch_size=batch_size, softmax_dtype="float32"),
        tasks=list(tasks),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        **settings,
    )


def harness_items(results: Any, leaf: str, metric: str, filter_name: str = "none") -> dict[str, Any]:
    rows = [row for row in results["samples"][leaf] if row["filter"] == filter_name]
    return {str(row["doc_id"]): list(row[metric]) if isinstance(row[metric], tuple) else row[metric] for row in rows}


def harness_prompts(results: Any, leaf: str) -> dict[int, list[Any]]:
    return {row["doc_id"]: list(row["arguments"]) for row in results["samples"][leaf]}


def suite_prompts(suite: Suite, leaf: str) -> dict[int, list[Any]]:
    requests = suite.content.leaves[leaf].requests
    return {doc: [request.arguments for request in found] for doc, found in requests.items()}
