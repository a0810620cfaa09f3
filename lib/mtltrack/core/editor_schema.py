"""The JSON schema of a configuration file, for editors."""

from __future__ import annotations

from typing import Any

from mtltrack.core.config import Config
from mtltrack.core.config_check import WEIGHT_KEY

NULL = {"type": "null"}


def editor_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a YAML file: every key, TASKS, BASE and the weights of tasks.

    It knows more than the sections alone: a key may be null (as if it were not written), TRAIN takes one
    <TASK>_WEIGHT a task, and BASE names other files. What only several keys together can get wrong is left to
    `load_config`.
    """
    schema = Config.model_json_schema()
    sections = [schema, *(node for name, node in schema["$defs"].items() if name != "TaskConfig")]
    for section in sections:
        section["properties"] = {key: _or_null(node) for key, node in section.get("properties", {}).items()}
    train = schema["$defs"]["Train"]
    weight = {**train.pop("additionalProperties"), "description": "Weight (lambda) of a task's loss."}
    train["patternProperties"] = {WEIGHT_KEY.pattern: _or_null(weight)}
    train["additionalProperties"] = False
    schema["properties"]["BASE"] = {
        "description": "Files to begin from, relative to this one; a later one wins.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    _allow_null_tasks(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "mtltrack configuration",
    }


def _or_null(node: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that may also be null, without pydantic's titles."""
    if (
        "$ref" in node or "allOf" in node or node.get("type") == "object"
    ):  # in anyOf, a section's errors get lost
        return {key: value for key, value in node.items() if key not in ("title", "default")}
    about: dict[str, Any] = {key: node[key] for key in ("description", "default") if key in node}
    inner = {key: value for key, value in node.items() if key not in ("title", "description", "default")}
    if "anyOf" in inner:
        return {**about, "anyOf": inner["anyOf"] if NULL in inner["anyOf"] else [*inner["anyOf"], NULL]}
    if "const" in inner:
        inner["enum"] = [inner.pop("const")]  # null is another choice
    if "enum" in inner:
        inner["enum"] = [*inner["enum"], None]
    if "type" in inner:
        inner["type"] = [inner["type"], "null"]
    return {**about, **inner}


def _allow_null_tasks(schema: dict[str, Any]) -> None:
    """Let `cls: null` take a task away that a base file brought."""
    tasks = schema["properties"]["TASKS"]
    tasks["patternProperties"] = {
        pattern: {"anyOf": [block, NULL]} for pattern, block in tasks["patternProperties"].items()
    }
    tasks["additionalProperties"] = False
