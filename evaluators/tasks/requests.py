"""The scored documents of one lm-eval task with their digests, and the requests built from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from mergesmith.errors import UserError

from ..config import ChatConfig, first_documents
from ..lm_eval_bridge.live_hflm import LiveLM, Pair
from .documents import digest
from .metrics import Metric

# lm-eval's default, which simple_evaluate sets on every run.
FEWSHOT_SEED = 1234
_ROW = "__mergesmith_row"
# Where a task's data is stored: left out of digests, which must be equal on all machines.
_LOCATION_KEYS = ("dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "metadata")


@dataclass(frozen=True)
class TaskItems:
    """The documents of the split that a task is scored on.

    Attributes:
        docs: the first `limit` documents, as the task sees them.
        digests: of the same documents before the task's preprocessing.
        all_digests: of all documents of the split.
        split_name: the dataset split.
    """

    docs: tuple[dict[str, Any], ...]
    digests: tuple[str, ...]
    all_digests: tuple[str, ...]
    split_name: str


@dataclass(frozen=True)
class Request:
    """One lm-eval instance with its tokens.

    Attributes:
        pair: context and continuation of a log-likelihood request.
        tokens: the document of a rolling log-likelihood request.
        prompt: the tokens to continue of a generation request.
    """

    instance: Instance
    pair: Pair | None = None
    tokens: list[int] | None = None
    prompt: list[int] | None = None

    @property
    def is_generation(self) -> bool:
        """Whether the model generates text for this request."""
        return self.prompt is not None

    def clear(self) -> None:
        """Remove the answers of an earlier candidate."""
        self.instance.resps, self.instance.filtered_resps = [], {}

    def answer(self, response: Any) -> None:
        """Store one deterministic answer as often as lm-eval asked for it."""
        self.instance.resps = [response] * self.repeats

    @property
    def repeats(self) -> int:
        """How many answers lm-eval asks for."""
        return self.instance.repeats or 1

    @property
    def length(self) -> int:
        """Number of tokens: of the document, the prompt, or context and continuation."""
        return len(self.tokens or self.prompt or ()) + (len(self.pair[1]) + len(self.pair[2]) if self.pair else 0)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The strings and settings that lm-eval passes to the model; a prompt comes first."""
        return self.instance.args


def read_items(task: ConfigurableTask, limit: float | None) -> TaskItems:
    """Read and digest a task's documents."""
    split_name = task.config.test_split or task.config.validation_split
    if split_name is None:  # as lm-eval's eval_docs does
        raise UserError(f"{task.task_name} has neither a test_split nor a validation_split")
    docs = tuple(dict(doc) for doc in task.eval_docs)
    digests = tuple(digest(doc) for doc in _raw_documents(task, split_name, docs))
    count = first_documents(limit, len(docs))
    return TaskItems(docs=docs[:count], digests=digests[:count], all_digests=digests, split_name=split_name)


def set_num_fewshot(task: ConfigurableTask, num_fewshot: int | None) -> tuple[int, bool]:
    """Set a task's number of examples by lm-eval's rules.

    Returns:
        The number, and whether the argument was ignored because the task fixes it to 0.
    """
    default = task.config.num_fewshot
    if default is None or (num_fewshot is not None and default != 0):
        task.set_config(key="num_fewshot", value=num_fewshot or 0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return task.config.num_fewshot or 0, default == 0 and bool(num_fewshot)


def build_requests(
    task: ConfigurableTask, lm: LiveLM, *, limit: int | None, chat: ChatConfig, template: Callable[..., str]
) -> dict[int, tuple[Request, ...]]:
    """Build the requests of each document id, over all documents at once so that prompts equal those of a full run.

    `template` turns messages into a prompt, if `chat` asks for the chat template.
    """
    task.build_all_requests(
        limit=limit,
        system_instruction=chat.system,
        apply_chat_template=chat.apply_template,
        fewshot_as_multiturn=chat.fewshot_as_multiturn,
        chat_template=template if chat.apply_template else None,
    )
    by_doc: dict[int, list[Request]] = {}
    for request in _tokenized(task.instances, lm):
        if request.instance.doc_id is None:
            raise UserError(f"{task.task_name}: lm-eval gave a request without a document id")
        by_doc.setdefault(request.instance.doc_id, []).append(request)
    return {doc: tuple(sorted(found, key=lambda request: request.instance.idx)) for doc, found in by_doc.items()}


def task_digest(
    task: ConfigurableTask, items: TaskItems, requests: Mapping[int, tuple[Request, ...]], metric: Metric
) -> str:
    """Return a SHA-256 of configuration, documents, prompts and metric; the same in every process."""
    config = {key: value for key, value in task.dump_config().items() if key not in _LOCATION_KEYS}
    prompts = [[request.arguments for request in found] for _, found in sorted(requests.items())]
    return digest([config, items.digests, items.docs, prompts, metric.name, metric.filter])


def can_share_logits(requests: Sequence[Request]) -> bool:
    """Return whether requests with equal token sequences (except the last token) also have equal context lengths."""
    cuts: dict[tuple[int, ...], int] = {}
    pairs = [request.pair for request in requests if request.pair is not None]
    return all(cuts.setdefault((*before, *after[:-1]), len(after)) == len(after) for _, before, after in pairs)


def _tokenized(instances: list[Instance], lm: LiveLM) -> list[Request]:
    pairs = iter(lm.tokenize([instance for instance in instances if instance.request_type == "loglikelihood"]))
    requests = []
    for instance in instances:
        if instance.request_type == "loglikelihood":
            requests.append(Request(instance, pair=_scorable(next(pairs), instance)))
        elif instance.request_type == "loglikelihood_rolling":
            requests.append(Request(instance, tokens=lm.tok_encode(instance.args[0])))
        else:
            requests.append(Request(instance, prompt=lm.prompt_tokens(instance.args[0])))
    return requests


def _scorable(pair: Pair, instance: Instance) -> Pair:
    if not pair[2]:
        raise UserError(f"{instance.task_name}: an answer of document {instance.doc_id} is empty, or has no tokens")
    return pair


def _raw_documents(
    task: ConfigurableTask, split_name: str, docs: tuple[dict[str, Any], ...]
) -> tuple[dict[str, Any], ...]:
    """Return the dataset rows behind the documents, or the documents if preprocessing hides their rows.

    Two tasks may preprocess one dataset differently; only the rows show that they use the same document.
    """
    preprocess = task.config.process_docs
    if preprocess is None:
        return docs
    try:
        rows = task.dataset[split_name]
        marked = [dict(doc) for doc in preprocess(rows.add_column(_ROW, list(range(len(rows)))))]
        numbers = [doc.pop(_ROW) for doc in marked]
    except Exception:  # the user's function may fail on an unknown column, or drop it
        return docs
    if tuple(marked) != docs:
        return docs
    return tuple(dict(rows[number]) for number in numbers)
