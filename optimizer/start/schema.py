"""The JSON schema of search.yaml, with every short form that the loader accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...merge_ops import METHODS
from ..config import RunConfig
from ..samplers import SAMPLERS

SCHEMA_FILE = "search.schema.json"
DURATION = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(s|m|h|d)?\s*$"}
NUMBER, TEXT, SWITCH = {"type": "number"}, {"type": "string"}, {"type": "boolean"}
MODEL_PATH = {
    "anyOf": [
        TEXT,
        {
            "type": "object",
            "properties": {"path": TEXT, "revision": {"type": ["string", "null"]}},
            "required": ["path"],
            "additionalProperties": False,
        },
    ]
}
MODEL = {
    "type": "object",
    "properties": {"model": MODEL_PATH, "lora": {"anyOf": [MODEL_PATH, {"type": "null"}]}},
    "required": ["model"],
    "additionalProperties": False,
}
REFERENCE = {
    "description": "A folder or hub id: model[@revision][+adapter[@revision]], or mergekit's mapping of the same.",
    "anyOf": [
        TEXT,
        MODEL,
        {"type": "object", "properties": {"model": MODEL}, "required": ["model"], "additionalProperties": False},
    ],
}
LIMIT = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "minimum": 1, "multipleOf": 1},
        {"type": "null"},
    ]
}
SHORT_FORMS: dict[str, list[dict[str, Any]]] = {  # section -> forms beside the mapping
    "TaskConfig": [TEXT],
    "RacingSection": [SWITCH, {"enum": ["on", "off"]}],
    "ParameterConfig": [NUMBER, SWITCH, {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}],
}
FIELDS: dict[tuple[str, str], dict[str, Any]] = {  # (section, key) -> its schema, where the loader accepts more or less
    ("RunConfig", "base_model"): REFERENCE,
    ("RunConfig", "models"): {"type": "array", "items": REFERENCE, "minItems": 1},
    ("RunConfig", "limit"): LIMIT,
    ("RunConfig", "task_path"): {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
    ("TaskConfig", "limit"): LIMIT,
    ("SearchSection", "time_limit"): {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, DURATION, {"type": "null"}]},
    ("WorkersSection", "trial_timeout"): {
        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, DURATION, {"type": "null"}]
    },
    ("WorkersSection", "grace"): {"anyOf": [{"type": "number", "minimum": 0}, DURATION]},
    ("RacingSection", "rule"): {"enum": ["betting", "off", False]},
}


def search_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of search.yaml."""
    schema = RunConfig.model_json_schema()
    sections: dict[str, Any] = schema["$defs"]
    for (section, key), form in FIELDS.items():
        properties = (schema if section == "RunConfig" else sections[section])["properties"]
        kept = {name: properties[key][name] for name in ("default", "title") if name in properties[key]}
        properties[key] = {**kept, **form}
    sections["SearchSection"]["properties"]["sampler"] |= {"enum": sorted(SAMPLERS)}
    sections["SpaceConfig"]["properties"]["methods"] = _methods(sections)
    for section, forms in SHORT_FORMS.items():
        mapping = sections[section]
        sections[section] = {"title": mapping.pop("title"), "anyOf": [mapping, *forms]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "search.yaml of mergesmith",
    }


def schema_text() -> str:
    """Return the JSON schema as the text of a file."""
    return json.dumps(search_schema(), indent=1, ensure_ascii=False) + "\n"


def editor_line(folder: Path) -> str:
    """Write the schema into the folder of a search.yaml, and return the line by which editors find it."""
    (folder / SCHEMA_FILE).write_text(schema_text(), encoding="utf-8")
    return f"# yaml-language-server: $schema=./{SCHEMA_FILE}"


def _methods(sections: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of space.methods: a list of names, or a mapping from names to settings."""
    parameter = {"$ref": "#/$defs/ParameterConfig"}
    shared = sections.pop("MethodConfig")["properties"]
    del shared["parameters"]
    methods: dict[str, Any] = {}
    for name, method in METHODS.items():
        names = [p.name for p in method.parameters if p.effect]
        mapping: dict[str, Any] = {
            "type": ["object", "null"],
            "properties": {**shared, **dict.fromkeys(names, parameter)},
            "additionalProperties": False,
        }
        if names:
            mapping["patternProperties"] = {rf"^models\[.+\]\.({'|'.join(names)})$": parameter}
        methods[name] = mapping
    return {
        "anyOf": [
            {"type": "array", "items": {"enum": sorted(METHODS)}, "minItems": 1},
            {"type": "object", "properties": methods, "additionalProperties": False, "minProperties": 1},
        ]
    }
