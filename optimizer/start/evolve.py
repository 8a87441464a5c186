"""Turns a configuration of mergekit-evolve into a search.yaml, and lists what has no counterpart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mergesmith.errors import Faults, UserError, unknown

from ...merge_ops import ModelReference, load_yaml
from ..config import parse_config

GENOME = (
    *("models", "merge_method", "base_model", "tokenizer_source", "layer_granularity", "normalize", "filters"),
    *("allow_negative_weights", "smooth"),
)
TOP = (
    *("genome", "tasks", "limit", "num_fewshot", "shuffle", "random_init", "apply_chat_template"),
    "fewshot_as_multiturn",
)
TASK = ("name", "weight", "metric")
NORMALIZED = ("ties", "dare_ties", "linear")  # methods whose weights mergekit-evolve normalizes unless told otherwise
NEGATIVE = [-1.0, 1.0]  # the range of weights that may be negative, where mergekit-evolve has no bounds


class Imported:
    """A search.yaml as a document, and sentences on what differs from the original.

    Attributes:
        document: the content of search.yaml.
        notes: what has no counterpart, or another meaning.
    """

    def __init__(self, original: Mapping[str, Any], where: str, folder: Path) -> None:
        """Translate a parsed configuration; `folder` is where its relative model paths start.

        Raises:
            UserError: it is no configuration of mergekit-evolve; all faults are listed.
        """
        _check(original, where)
        self.folder, self.notes = folder, list[str]()
        genome = original["genome"]
        method = genome["merge_method"]
        models = [_reference(model) for model in genome["models"]]
        self.document: dict[str, Any] = self._models(genome, models)
        self.document["tasks"] = [self._task(task) for task in original["tasks"]]
        for key in ("limit", "num_fewshot"):
            if original.get(key) is not None:
                self.document[key] = original[key]
        self.document["chat"] = {
            "apply_template": original.get("apply_chat_template", True),
            "fewshot_as_multiturn": original.get("fewshot_as_multiturn", True),
        }
        self.document["space"] = {**self._depth(genome, models), "methods": {method: self._method(genome)}}
        if genome.get("filters"):
            self.document["space"]["filters"] = list(genome["filters"])
        if original.get("shuffle"):
            self.notes.append("shuffle: left out; the items of every task are divided and ordered at random already")
        if original.get("random_init"):
            self.notes.append("random_init: left out; a search begins with the usual merges as baselines")
        self.notes.append("options of the command line: --max-fevals N is search.trials: N (100 unless set)")
        parse_config(self.document, where=where)

    def to_yaml(self) -> str:
        """Return the search.yaml, with the notes as comments."""
        notes = "".join(f"# - {note}\n" for note in self.notes)
        text = yaml.safe_dump(self.document, sort_keys=False, allow_unicode=True, default_flow_style=None)
        return f"# Imported from a configuration of mergekit-evolve. Differences:\n{notes}{text}"

    def _models(self, genome: Mapping[str, Any], models: list[str]) -> dict[str, Any]:
        """Return base_model and models; a search needs a base, which is not among the models."""
        base = genome.get("base_model")
        if base is None:
            base, models = models[0], models[1:]
            self.notes.append(f"base_model: there was none, and a search needs one; the first model, {base}, is it now")
        else:
            base = _reference(base)
            if base in models:
                self.notes.append(f"base_model: {base} was also one of the models; as the base, it is not searched")
        found: dict[str, Any] = {"base_model": base, "models": [model for model in models if model != base]}
        if genome.get("tokenizer_source") is not None:
            found["tokenizer_source"] = genome["tokenizer_source"]
        return found

    def _task(self, task: Any) -> Any:
        if isinstance(task, str):
            return {"name": task, "metric": "acc,none"}
        weight = task.get("weight", 1.0)
        found: dict[str, Any] = {"name": task["name"], "metric": task.get("metric", "acc,none")}
        if weight != 1.0:
            found["weight"] = abs(weight)
        if weight < 0:
            found["higher_is_better"] = False
            self.notes.append(
                f"tasks: the weight of {task['name']} was {weight:g}, so its metric is minimised: weight {-weight:g} "
                "with higher_is_better: false. Weights are relative; metrics without bounds are scaled by the parents"
            )
        return found

    def _method(self, genome: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the method."""
        method, found = genome["merge_method"], dict[str, Any]()
        if method == "slerp":
            self.notes.append("slerp: one pair is searched for the whole model, not one for each group of layers")
            return found
        normalize = genome.get("normalize")
        normalize = method in NORMALIZED if normalize is None else normalize
        found["normalize"] = normalize
        if normalize and method != "linear":
            found["lambda"] = 1
        if genome.get("allow_negative_weights"):
            found["weight"] = NEGATIVE
            self.notes.append(f"allow_negative_weights: weights are searched in {NEGATIVE}; there were no bounds")
        return found

    def _depth(self, genome: Mapping[str, Any], models: list[str]) -> dict[str, Any]:
        """Return how parameters are divided over the layers."""
        size = genome.get("layer_granularity", 0)
        if size < 1:
            return {}
        key = "knots" if genome.get("smooth") else "steps"
        layers = _layers(self.folder, models[0])
        if layers is None:
            self.notes.append(
                f"layer_granularity: {size} layers per group; the config.json of {models[0]} cannot be read here, so "
                f"add {key}: LAYERS / {size} under space"
            )
            return {}
        if key == "steps":
            self.notes.append("steps: embeddings, final norm and head take the values of the first block")
        return {key: max(1, layers // size)}


def read_evolve(path: Path) -> Imported:
    """Read a configuration of mergekit-evolve.

    Raises:
        UserError: the file cannot be read, or is no such configuration.
    """
    try:
        document = load_yaml(path.read_text(encoding="utf-8"), where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not isinstance(document, Mapping) or "genome" not in document:
        raise UserError(f"{path}: this is no configuration of mergekit-evolve, which has genome and tasks")
    return Imported(document, str(path), path.parent)


def _check(original: Mapping[str, Any], where: str) -> None:
    """Check the keys of a configuration.

    Raises:
        UserError: a key is unknown or missing; all such faults are listed.
    """
    faults, genome = Faults(where), original["genome"]
    tasks = original.get("tasks")
    if not isinstance(genome, Mapping) or not isinstance(tasks, list):
        raise UserError(f"{where}: genome must be a mapping and tasks a list")
    for place, section, known in (("", original, TOP), ("genome.", genome, GENOME)):
        for key in section:
            if key not in known:
                faults.add(f"{place}{key}", unknown("key", key, known))
    for key in ("models", "merge_method"):
        if not genome.get(key):
            faults.add(f"genome.{key}", "is missing")
    for i, task in enumerate(tasks):
        if not isinstance(task, (str, Mapping)) or (isinstance(task, Mapping) and "name" not in task):
            faults.add(f"tasks.{i}", "must be a name, or a mapping with name, weight and metric")
        elif isinstance(task, Mapping):
            for key in task:
                if key not in TASK:
                    faults.add(f"tasks.{i}.{key}", unknown("key", key, TASK))
    faults.raise_if_any()


def _reference(model: Any) -> str:
    return str(ModelReference.from_mapping(model)) if isinstance(model, Mapping) else str(model)


def _layers(folder: Path, model: str) -> int | None:
    """Return the number of layers of a local model; None if its config.json cannot be read here."""
    for root in (Path(), folder):
        try:
            settings = json.loads((root / model / "config.json").read_text(encoding="utf-8"))
            settings = settings.get("text_config", settings)
            return int(settings.get("num_hidden_layers") or settings["n_layer"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
