"""The cases of merge_speed.py: every method of mergekit with parameters, as candidates of a search; and the goals."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

BASE, SOURCES = "base", ("a", "b", "c")
JITTER = 0.05  # relative change of a number from one candidate to the next, at most


@dataclass(frozen=True)
class Case:
    """A method and its parameters: `shared` ones, and in `own` those per model, the base's first.

    `models` are its inputs, the base included; `based` is whether the method treats the base as one.
    """

    method: str
    shared: dict[str, Any] = field(default_factory=dict)
    own: dict[str, dict[str, float]] = field(default_factory=dict)
    models: tuple[str, ...] = (BASE, *SOURCES)
    based: bool = True

    @property
    def base(self) -> str | None:
        """The base model; None for methods without one."""
        return BASE if self.based else None

    @property
    def has_numbers(self) -> bool:
        """Whether candidates of this method can differ."""
        return any(isinstance(value, float) for value in self.shared.values()) or bool(self.own)

    def candidate(self, number: int) -> Case:
        """Return the case with every parameter changed a little; number 0 is the case itself."""
        draw = random.Random(number)

        def moved(value: Any) -> Any:
            return value * (1 + draw.uniform(-JITTER, JITTER)) if number and isinstance(value, float) else value

        return replace(
            self,
            shared={name: moved(value) for name, value in self.shared.items()},
            own={name: {model: moved(v) for model, v in values.items()} for name, values in self.own.items()},
        )

    def recipe(self, folder: Path, **dtypes: str) -> str:
        """Return the recipe as YAML (JSON is YAML) over the checkpoints in `folder`."""
        models = [
            {
                "model": str(folder / model),
                "parameters": {name: values[model] for name, values in self.own.items() if model in values},
            }
            for model in self.models
        ]
        document: dict[str, Any] = {"merge_method": self.method, "models": models, "parameters": self.shared, **dtypes}
        if self.based:
            document["base_model"] = str(folder / BASE)
        return json.dumps(document, indent=1)


WEIGHT = dict(zip(SOURCES, (0.5, 0.4, 0.3), strict=True))
DENSITY = dict.fromkeys(SOURCES, 0.5)
ALL = {"weight": {BASE: 0.4, **WEIGHT}}
TRIMMED = {"weight": WEIGHT, "density": DENSITY}
PAIR = (BASE, "a")

CASES = {
    case.method: case
    for case in (
        Case("linear", own=ALL, based=False),
        Case("slerp", {"t": 0.3}, models=PAIR),
        Case("task_arithmetic", {"lambda": 0.9}, {"weight": WEIGHT}),
        Case("ties", {"lambda": 0.9}, TRIMMED),
        Case("dare_ties", {"lambda": 0.9}, TRIMMED),
        Case("dare_linear", {"lambda": 0.9}, TRIMMED),
        Case("breadcrumbs", {"lambda": 0.9, "gamma": 0.01}, TRIMMED),
        Case("breadcrumbs_ties", {"lambda": 0.9, "gamma": 0.01}, TRIMMED),
        Case("della", {"lambda": 0.9, "epsilon": 0.15}, TRIMMED),
        Case("della_linear", {"lambda": 0.9, "epsilon": 0.15}, TRIMMED),
        Case("nuslerp", {}, {"weight": {"a": 0.5, "b": 0.4}}, (BASE, "a", "b")),
        Case("multislerp", {}, {"weight": WEIGHT}),
        Case("karcher", based=False),
        Case("model_stock"),
        Case("sce", {"select_topk": 0.5}),
        Case("ram", {"epsilon": 1e-5}),
        Case("ramplus_tl", {"epsilon": 1e-5, "r": 0.1, "alpha": 0.2}),
        Case("nearswap", {"t": 0.001}, models=PAIR),
        Case("arcee_fusion", models=PAIR),
        Case("passthrough", {}, {"scale": {"a": 0.9}}, ("a",), based=False),
    )
}

# The goals: at least this many times as fast as mergekit, and at most this many times the time of copying the inputs.
FASTER = {**dict.fromkeys(CASES, 8), "linear": 10, "slerp": 10, "task_arithmetic": 20, "dare_ties": 100, "ties": 300}
COPIES = {"linear": 2, "slerp": 2, "task_arithmetic": 2, "ties": 4, "breadcrumbs": 4, "dare_ties": 4}
EXTRA_MEMORY = 256 * 2**20
TINY_SECONDS = 0.2
DISK_FASTER = {**dict.fromkeys(CASES, 1), "ties": 10}
