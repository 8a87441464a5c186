"""The keys of search.yaml, from the pydantic models that read it.

The description of a key is, in this order, that in `DESCRIPTIONS`, its field's `description`, or its entry under
`Attributes:` in the docstring of its section.
"""

from __future__ import annotations

import datetime
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mergesmith.evaluators import TaskConfig
from mergesmith.optimizer.config import RunConfig

# Keys whose models carry no description, or only a short one.
DESCRIPTIONS = {
    "version": "The version of this file's format.",
    "base_model": "The base model: a folder, a hub id (`owner/name@revision`), or either with a LoRA adapter "
    "(`model+adapter`). mergekit's mapping `{model: {path: ..., revision: ...}, lora: ...}` is accepted too.",
    "models": "The fine-tunes to merge, named like `base_model`. They must have its architecture, and its vocabulary "
    "unless `tokenizer_source` is given.",
    "tasks": "What candidates are scored on: names of lm-eval tasks, groups or tags, or mappings with the keys of "
    "[`tasks[]`](#tasks).",
    "limit": "Only the first documents of every lm-eval task that sets no `limit`: a number of documents, or a share "
    "below 1 (rounded up), as in lm-eval.",
    "num_fewshot": "The number of examples in the prompts of every lm-eval task that sets no `num_fewshot`.",
    "task_path": "Folders with your lm-eval task YAML.",
    "baselines": "Recipe files that are scored before the first proposal, beside the built-in baselines.",
    "tokenizer_source": "The vocabulary of every candidate if the models' vocabularies differ: `union`, `base`, or one "
    "of the models. All candidates are scored with the tokenizer of that vocabulary. `union` needs methods that take "
    "all models at once (not `slerp`).",
    "bank": "Where the sources are kept on a GPU machine: `device`, `host` (copied to the device tensor by tensor "
    "while it computes), or `auto` (`mergesmith plan` prints which one, and why).",
    "output": "The run folder.",
    "chat.apply_template": "Whether prompts are formatted with the tokenizer's chat template.",
    "chat.system": "A system prompt.",
    "chat.date": "The day (YYYY-MM-DD) that a template prints if it prints today's date. If unset, the day on which "
    "the run begins, which its search.yaml records.",
    "chat.fewshot_as_multiturn": "Whether few-shot examples become turns of the chat.",
    "split.search": "The share of the items on which the search scores candidates.",
    "split.select": "The share of the items on which the winner is chosen among the best candidates.",
    "split.report": "The share of the items for the final report; scored once, when the winner has been chosen.",
    "space.methods": "The merge methods to search: a list of names, or a mapping from names to settings. A parameter "
    "is fixed by a number, searched over `[low, high]` or `{range: [low, high], log: true}`, or takes one of "
    '`{choices: [...]}`. `"models[./math-tuned].weight"` is the parameter of one model. A parameter may have '
    "`share: true`, `knots`, `steps` and `filters`; a method `knots`, `steps`, `filters` and `models`. See "
    "[Shape the search space](../how-to/search-space.md).",
    "space.knots": "How many values a gradient over depth has; 1 is a constant.",
    "space.steps": "Into how many blocks of layers the depth is divided, each with its value; instead of `knots`.",
    "space.filters": "Parts of tensor names that get separate parameter values, such as `[self_attn, mlp]`; regular "
    "expressions begin with `re:`.",
    "search.sampler": "`auto`, which works in stages, or, for comparison, `cmaes`, `descent`, `gp`, `qmc`, `random` or "
    "`tpe`; see [Samplers](samplers.md).",
    "search.trials": "The largest number of proposed candidates; baselines and probes are not counted.",
    "search.time_limit": "The time after which no more candidates are proposed, such as `30m` or `8h`; it starts again "
    "when a run is resumed.",
    "search.item_scores": "The number of item scores after which no more candidates are proposed. A probe of the loss "
    "counts as one per item, of the gradient as three; baselines are not counted.",
    "search.control": "`random` adds a random search that spends as many item scores as this one; the verdict compares "
    "the two. See [Read the result](../how-to/read-the-result.md#the-control).",
    "search.seed": "Seed of the sampler, of random masks, and of the order of items.",
    "search.racing": 'When a candidate is dropped before all its items are scored; `off` is short for `{rule: "off"}`. '
    "See [Racing](../explanation/racing.md).",
}


def lines() -> Iterator[str]:
    """Yield one table per section, the top level first."""
    yield from _table("Top level", RunConfig, "")
    yield from _table("`tasks[]`", TaskConfig, "tasks")
    yield from _sections(RunConfig, "")


def keys() -> Iterator[tuple[str, str]]:
    """Yield (dotted key, description) of every key; the description is empty if there is none."""
    for model, prefix in ((RunConfig, ""), (TaskConfig, "tasks")):
        yield from _keys(model, prefix)


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}".lstrip(".")
        section = _section(field)
        yield key, _description(model, key) or (_summary(section) if section else "")
        if section:
            yield from _keys(section, key)


def _sections(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if section := _section(field):
            key = f"{prefix}.{name}".lstrip(".")
            yield from _table(f"`{key}`", section, key)
            yield from _sections(section, key)


def _table(title: str, model: type[BaseModel], prefix: str) -> Iterator[str]:
    yield from (f"## {title}" + (f" {{#{prefix.replace('.', '-')}}}" if prefix else ""), "")
    if prefix:
        yield from (_summary(model), "")
    yield from ("| key | type | default | meaning |", "| --- | --- | --- | --- |")
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}".lstrip(".")
        section = _section(field)
        text = _description(model, key)
        if section:
            text = f"{text or _summary(section)} Keys: [`{key}`](#{key.replace('.', '-')})."
        kind = "mapping" if section else _kind(field)
        yield f"| `{name}` | {kind} | {'' if section else _default(field)} | {text} |"
    yield ""


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a nested section, or None."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _summary(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")


def _description(model: type[BaseModel], key: str) -> str:
    """Return the description of a key as one sentence, or an empty string."""
    name = key.rpartition(".")[2]
    text = DESCRIPTIONS.get(key) or model.model_fields[name].description or _attributes(model).get(name, "")
    return text[:1].upper() + text[1:] if text else ""


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return the entries under `Attributes:` of a class's docstring."""
    _, _, section = (inspect.getdoc(model) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, dict):
        return f"`[{', '.join(value)}]`"
    if isinstance(value, tuple) and value:
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, bool):
        return str(value).lower()
    return {None: "unset", (): "none"}.get(value, f"`{value}`")


def _kind(field: FieldInfo) -> str:
    """Return the type of a key in the words of YAML."""
    return ", ".join([_words(field.annotation), *_bounds(field.metadata)])


_LAWS = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
_WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    dict: "mapping",
    datetime.date: "date",
}


def _words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        constraints = [c for m in arguments[1:] for c in (m.metadata if isinstance(m, FieldInfo) else [m])]
        return ", ".join([_words(arguments[0]), *_bounds(constraints)])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        return "list"
    return _WORDS.get(origin or annotation, "mapping")


def _bounds(constraints: Iterable[Any]) -> list[str]:
    return [f"{law} {getattr(c, name):g}" for c in constraints for name, law in _LAWS if hasattr(c, name)]
