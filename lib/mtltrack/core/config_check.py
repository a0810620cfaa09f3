"""Say which keys of a configuration are unknown, and which values have a wrong type or range."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mtltrack.core.errors import did_you_mean, nearest
from mtltrack.core.schema import Train
from mtltrack.core.schema_types import Section
from mtltrack.core.yaml_source import BASE_KEY, KeyPath, Problem, Source, Tree, key_text

WEIGHT_KEY = re.compile(r"^[A-Z][A-Z0-9_]*_WEIGHT$")
BOX_WEIGHTS = ("GIOU_WEIGHT", "L1_WEIGHT", "DFL_WEIGHT")
USUAL_TASKS = ("cls", "seg", "plate", "ocr", "alert")
"""Tasks with a head in this project; a weight of one of them is rather meant than a strange task's."""


# --- unknown keys


def take_unknown_keys(root: type[Section], source: Source, tree: Tree) -> list[Problem]:
    """Take every unknown key out of `tree` and return one problem for each."""
    tasks = _raw_tasks(tree)
    taken_away = [name for name, block in _task_blocks(tree).items() if block is None]
    check = _KeyCheck(root, source, tasks, [*taken_away, *USUAL_TASKS])
    problems = list(check.problems_below(root, tree, ()))
    return problems + list(_strange_absences(source, taken_away, tasks))


def _strange_absences(source: Source, taken_away: list[str], tasks: list[str]) -> Iterator[Problem]:
    """Yield a problem for each `TASKS.<name>: null` that looks as if another task was to be taken away."""
    for name in taken_away:
        near = did_you_mean(name, [*tasks, *USUAL_TASKS])
        if near and name not in USUAL_TASKS:
            place = source.place(("TASKS", name))
            yield Problem(place, f"TASKS.{name}", f"takes away a task that isn't there.{near}")


def _task_blocks(tree: Tree) -> dict[str, Any]:
    tasks = tree.get("TASKS")
    return tasks if isinstance(tasks, dict) else {}


def _raw_tasks(tree: Tree) -> list[str]:
    """Return the names in TASKS as written, and cls where MODEL.CLS_HEAD stands for it."""
    names = [name for name, block in _task_blocks(tree).items() if block is not None]
    model = tree.get("MODEL")
    if isinstance(model, dict) and model.get("CLS_HEAD") is not None and "cls" not in names:
        names.append("cls")
    return names


class _KeyCheck:
    """Compare the keys of a tree with those of the sections.

    Args:
        root: the section of the whole tree.
        source: where the keys stand.
        tasks: names of the tasks, whose weights are keys of TRAIN.
        absent: names of tasks that aren't there, whose weights may stand there without a value.
    """

    def __init__(self, root: type[Section], source: Source, tasks: list[str], absent: list[str]) -> None:
        self.source = source
        self.tasks = tasks
        self.weights = _weights_of(tasks)
        self.absent_weights = _weights_of(absent)
        self.homes = _homes(root)

    def problems_below(self, section: type[Section], tree: Tree, path: KeyPath) -> Iterator[Problem]:
        """Yield the problems of one section and those below it; take unknown keys out of `tree`."""
        known = {*section.model_fields, *(self.weights if section is Train else [])}
        for key in list(tree):
            here = (*path, key)
            field = section.model_fields.get(key)
            inner = None if field is None else section_of(field)
            if inner is not None and isinstance(tree[key], dict):
                yield from self.problems_below(inner, tree[key], here)
            if key in known:
                continue
            value = tree.pop(key)
            if section is Train and WEIGHT_KEY.match(key):
                if value is None and key in self.absent_weights:
                    continue  # so that an option can take a weight away together with its task
                text = self._unknown_weight(key, value)
            else:
                text = self._unknown_key(key, value, known, path)
            yield Problem(self.source.place(here), key_text(here), text)

    def _unknown_weight(self, key: str, value: Any) -> str:
        task = key.removesuffix("_WEIGHT").lower()
        known = [*BOX_WEIGHTS, *self.weights]
        strangers = [name for name in self.tasks if name not in USUAL_TASKS]
        weighed = {*known, *(self.absent_weights if value is None else ())}
        near = did_you_mean(task, [name.removesuffix("_WEIGHT") for name in weighed])
        near = re.sub(r"'( or|\?)", r"_WEIGHT'\1", near)
        if task in USUAL_TASKS and nearest(task, strangers):
            near = f" TASKS has {nearest(task, strangers)[0]}.{did_you_mean(task, [task])}"
        if not near:
            near = f" To add the task: TASKS: {{{task}: {{TYPE: <head>}}}}."
        allowed = ", ".join(known)
        found = f"(found {show(value)})"
        return f"unknown key {found}: TASKS holds no task '{task}'.{near} Allowed weights: {allowed}."

    def _unknown_key(self, key: str, value: Any, known: set[str], path: KeyPath) -> str:
        known = known | ({BASE_KEY} if not path else set())
        more = {"CLS_WEIGHT", *self.absent_weights} if path == ("TRAIN",) else set()
        near = did_you_mean(key, known | more)
        if key in self.homes:
            near = f" This key belongs at {' or '.join(self.homes[key][:4])}."
        where = key_text(path) or "a configuration"
        allowed = ", ".join(sorted(known))
        return f"unknown key (found {show(value)}).{near} Allowed in {where}: {allowed}."


def _weights_of(tasks: list[str]) -> list[str]:
    return [f"{task.upper()}_WEIGHT" for task in tasks]


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a key holds, or None where it holds a value."""
    for part in (field.annotation, *get_args(field.annotation)):
        if isinstance(part, type) and issubclass(part, Section):
            return part
    return None


def _homes(section: type[Section], path: KeyPath = ()) -> dict[str, list[str]]:
    """Return for every key name the full keys that end in it."""
    homes: dict[str, list[str]] = {}
    for key, field in section.model_fields.items():
        here = (*path, key)
        homes.setdefault(key, []).append(key_text(here))
        inner = section_of(field)
        if inner is not None:
            for name, places in _homes(inner, here).items():
                homes.setdefault(name, []).extend(places)
    return homes


# --- types and ranges


def type_problems(root: type[BaseModel], error: ValidationError, source: Source) -> Iterator[Problem]:
    """Turn pydantic's errors into problems that name place, key, what was found and what is allowed."""
    schema = root.model_json_schema()
    for detail in error.errors():
        path = _error_path(detail)
        if detail["type"] == "missing":
            node = _schema_at(schema, path)
            near = _misspelt_key(str(path[-1]), source.value(path[:-1]))
            if not near and path[0] == "TASKS" and path[1] not in USUAL_TASKS:
                near = did_you_mean(str(path[1]), USUAL_TASKS)
            text = f"this key is needed; allowed: {describe(schema, node)}.{near}"
            yield Problem(source.place(path), key_text(path), text)
        elif "[key]" in detail["loc"]:
            text = "a task's name is written in small letters, digits and _, and begins with a letter"
            yield Problem(source.place(path), key_text(path), text)
        else:
            found = source.value(path)
            node = _schema_at(schema, path)
            near = did_you_mean(found, _choices(schema, node)) if isinstance(found, str) else ""
            near = near or _misspelt_key("TYPE", found)
            about = f" {node['description']}" if "const" in node else ""
            text = f"found {show(found)}; allowed: {describe(schema, node)}.{about}{near}"
            yield Problem(source.place(path), key_text(path), text)


def _misspelt_key(key: str, mapping: Any) -> str:
    """Return which key of a mapping may be a misspelling of one that it needs and doesn't have."""
    if not isinstance(mapping, dict) or key in mapping:
        return ""
    written = next((name for name in mapping if nearest(str(name), [key])), None)
    return "" if written is None else f" It has {written}.{did_you_mean(str(written), [key])}"


def take_refused(error: ValidationError, tree: Tree) -> list[KeyPath]:
    """Take the values that pydantic refused out of `tree`; return their paths (whole lists, not items)."""
    paths = set()
    for detail in error.errors():
        path = _error_path(detail)
        if detail["type"] == "missing":
            path = path[:-1]
        paths.add(path[: next((i for i, key in enumerate(path) if isinstance(key, int)), len(path))])
    for path in paths:
        node: Any = tree
        for key in path[:-1]:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(path[-1], None)
    return list(paths)


def _error_path(detail: ErrorDetails) -> KeyPath:
    return tuple(key for key in detail["loc"] if key != "[key]")


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node or "allOf" in node:  # pydantic before 2.9 wraps a reference in allOf
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node["allOf"][0]
    return node


def _schema_at(schema: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    """Return the part of the JSON schema that describes the value at `path`; empty where nothing does."""
    node = schema
    for key in path:
        node = _resolve(schema, node)
        options = [_resolve(schema, option) for option in node.get("anyOf", [node])]
        node = next((found for option in options if (found := _child(option, key)) is not None), {})
    return _resolve(schema, node)


def _child(node: dict[str, Any], key: str | int) -> dict[str, Any] | None:
    if isinstance(key, int):
        return node.get("items")
    rest = node.get("additionalProperties")
    patterns = node.get("patternProperties", {})
    rest = next((inner for pattern, inner in patterns.items() if re.search(pattern, key)), rest)
    return node.get("properties", {}).get(key, rest if isinstance(rest, dict) else None)


def _choices(schema: dict[str, Any], node: dict[str, Any]) -> list[str]:
    options = [_resolve(schema, option) for option in node.get("anyOf", [node])]
    choices = [choice for option in options for choice in [*option.get("enum", []), option.get("const")]]
    return [choice for choice in choices if isinstance(choice, str)]


def describe(schema: dict[str, Any], node: dict[str, Any]) -> str:
    """Return in words what a part of a JSON schema allows."""
    node = _resolve(schema, node)
    if "anyOf" in node:
        return " or ".join(
            describe(schema, option) for option in node["anyOf"] if option.get("type") != "null"
        )
    if "const" in node:
        return f"only {show(node['const'])}"
    if "enum" in node:
        return ", ".join(show(choice) for choice in node["enum"])
    kind = node.get("type")
    if kind in ("number", "integer"):
        return ("a number" if kind == "number" else "a whole number") + _limits(node)
    if kind == "array":
        return _describe_list(schema, node)
    if kind == "object":
        keys = [*node.get("properties", {})]
        return f"a mapping with the keys {', '.join(keys)}" if keys else "a mapping"
    return {
        "string": "a text" + (", not empty" if node.get("minLength") else ""),
        "boolean": "true or false",
    }.get(str(kind), "a value")


def _limits(node: dict[str, Any]) -> str:
    words = {
        "exclusiveMinimum": "above",
        "minimum": "at least",
        "exclusiveMaximum": "below",
        "maximum": "at most",
    }
    limits = [f"{word} {node[key]:g}" for key, word in words.items() if key in node]
    return " " + " and ".join(limits) if limits else ""


def _describe_list(schema: dict[str, Any], node: dict[str, Any]) -> str:
    least, most = node.get("minItems"), node.get("maxItems")
    count = (
        f" of exactly {least}"
        if least is not None and least == most
        else f" of at least {least}"
        if least
        else ""
    )
    item = describe(schema, node.get("items", {}))
    return f"a list{count}" + (", each " if count else " of values, each ") + item


def show(value: Any) -> str:
    """Return a value as YAML writes it, cut to 80 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
