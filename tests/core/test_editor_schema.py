"""The schema for editors: every key, tasks and their weights, BASE."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from mtltrack.core.editor_schema import editor_schema

ROOT = Path(__file__).resolve().parents[2]


def test_keys_and_ranges() -> None:
    schema = editor_schema()
    definitions = schema["$defs"]
    assert {"DATA", "MODEL", "TRAIN", "TEST", "TASKS", "BASE"} == set(schema["properties"])
    rate = definitions["Train"]["properties"]["LR"]
    assert rate["exclusiveMinimum"] == 0
    assert rate["type"] == ["number", "null"]
    assert rate["default"] == 1e-4
    assert definitions["BoxHead"]["properties"]["TYPE"]["enum"] == ["CENTER", "CORNER", "MLP", "DFL", None]
    assert all(
        section["additionalProperties"] is False
        for name, section in definitions.items()
        if name != "TaskConfig"
    )


def test_weights_of_tasks() -> None:
    train = editor_schema()["$defs"]["Train"]
    ((pattern, weight),) = train["patternProperties"].items()
    assert re.search(pattern, "PLATE_WEIGHT")
    assert not re.search(pattern, "CLS_WIEGHT")
    assert weight["minimum"] == 0


def test_tasks() -> None:
    schema = editor_schema()
    tasks = schema["properties"]["TASKS"]
    ((pattern, block),) = tasks["patternProperties"].items()
    assert re.search(pattern, "cls")
    assert not re.search(pattern, "Cls")
    assert block["anyOf"][0]["$ref"] == "#/$defs/TaskConfig"
    assert tasks["additionalProperties"] is False
    assert schema["$defs"]["TaskConfig"]["required"] == ["TYPE"]
    assert schema["$defs"]["TaskConfig"]["additionalProperties"] is True


def test_tool_writes_it(tmp_path: Path) -> None:
    out = tmp_path / "schema.json"
    command = [sys.executable, str(ROOT / "tools" / "config_schema.py"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    assert json.loads(out.read_text()) == editor_schema()
