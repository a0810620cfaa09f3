"""Read YAML so that every value still knows the file and line that it came from.

A file may begin from others (`BASE:`), and options (`KEY=VALUE`) may change single values. The result is a
tree of plain Python values and, for every key path in it, the place where it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mtltrack.core.errors import ConfigError

KeyPath = tuple[str | int, ...]
Tree = dict[str, Any]
BASE_KEY = "BASE"
OPTION_FLAG = "--cfg-options"


@dataclass(frozen=True)
class Place:
    """Where a value was written: a file and its line, or the text of an option (no line)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    place: Place
    key: str
    text: str

    def order(self, main_file: str) -> tuple[bool, str, int]:
        """Return a sorting key: the main file by lines, then its bases and the options."""
        return self.place.file != main_file, self.place.file, self.place.line or 0

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.text}" if self.key else f"{self.place}: {self.text}"


@dataclass
class Source:
    """A tree of plain values and the places of its keys.

    Attributes:
        name: what to call it in a message: the file that was asked for.
        tree: nested dictionaries, lists and scalars.
        places: key path -> place, for every key of a mapping and every item of a list.
    """

    name: str
    tree: Tree = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath) -> Place:
        """Return where `path` was written, or else the nearest key around it, or else the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return Place(self.name)

    def value(self, path: KeyPath) -> Any:
        """Return the value at `path`, or None where there is none."""
        node: Any = self.tree
        for key in path:
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and isinstance(key, int) and key < len(node):
                node = node[key]
            else:
                return None
        return node


def key_text(path: KeyPath) -> str:
    """Return a key path as people write it: TRAIN.LR, or DATA.MEAN[0] for an item of a list."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def raise_problems(name: str, problems: Sequence[Problem]) -> None:
    """Raise one `ConfigError` that lists every problem; do nothing when there is none."""
    if not problems:
        return
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ConfigError(
        "\n".join([f"{count} in the configuration {name}:", *(f"  {problem}" for problem in problems)])
    )


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's floats: PyYAML reads `1e-4` as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
_Loader.yaml_implicit_resolvers = {  # a sequence named 2020-01-01 is a name, not a date
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


class _Reader:
    """Turn one composed YAML document into a `Source`."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.source = Source(file)
        self.problems: list[Problem] = []
        self.loader = _Loader(text)

    def read(self) -> Source:
        try:
            root = self.loader.get_single_node()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
            place = Place(self.file, None if mark is None else mark.line + 1)
            raise ConfigError(f"{place}: this isn't valid YAML: {reason}") from error
        if root is not None and not _is_null(root):
            if not isinstance(root, yaml.MappingNode):
                place = Place(self.file, root.start_mark.line + 1)
                raise ConfigError(
                    f"{place}: a configuration is a mapping of keys (DATA, MODEL, ...); this is not one"
                )
            self.source.tree = self._mapping(root, ())
        raise_problems(self.file, self.problems)
        return self.source

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            values = []
            for index, item in enumerate(node.value):
                self._note((*path, index), item)
                values.append(self._value(item, (*path, index)))
            return values
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            place = Place(self.file, node.start_mark.line + 1)
            self.problems.append(
                Problem(place, key_text(path), f"found {node.value!r}, which can't be read: {error}")
            )
            return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Tree:
        first_lines: dict[str, int] = {}
        for key_node, _ in node.value:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            if name in first_lines and name != "<<":
                place = Place(self.file, line)
                text = f"this key stands twice, first in line {first_lines[name]}; keep one of them"
                self.problems.append(Problem(place, key_text((*path, name)), text))
            first_lines.setdefault(name, line)
        self.loader.flatten_mapping(node)  # resolves "<<: *anchor"
        tree: Tree = {}
        for key_node, value_node in node.value:
            name = str(key_node.value)  # the text as written: 0001 is a name here, not the octal number 1
            self._note((*path, name), key_node)
            tree[name] = self._value(value_node, (*path, name))
        return tree

    def _note(self, path: KeyPath, node: yaml.Node) -> None:
        self.source.places[path] = Place(self.file, node.start_mark.line + 1)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def read_yaml(path: str | Path) -> Source:
    """Read one YAML file, without following its BASE.

    Raises:
        ConfigError: the file is missing or unreadable, isn't a YAML mapping, or holds a key twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration file at {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} can't be read: {error}") from error
    return _Reader(_shown(path), text).read()


def _shown(path: Path) -> str:
    """Return the path relative to the current folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_with_bases(path: str | Path, chain: tuple[Path, ...] = ()) -> Source:
    """Read a YAML file on top of the files that its BASE names (one relative path or a list; later ones win).

    Raises:
        ConfigError: as `read_yaml`, and for a BASE that is missing, isn't a path, or leads back to itself.
    """
    path = Path(path)
    resolved = path.resolve()
    own = read_yaml(path)
    bases = own.tree.pop(BASE_KEY, None)
    if bases is None:
        bases = []
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        problem = Problem(
            own.place((BASE_KEY,)), BASE_KEY, f"found {bases!r}; allowed: a relative path, or a list of them"
        )
        raise_problems(own.name, [problem])
    merged = Source(own.name)
    for base in bases:
        base_path = path.parent / base
        _check_base(own, base, base_path, (*chain, resolved))
        merge(merged, read_with_bases(base_path, (*chain, resolved)))
    merge(merged, own)
    return merged


def _check_base(own: Source, base: str, base_path: Path, chain: tuple[Path, ...]) -> None:
    place = own.place((BASE_KEY,))
    if base_path.resolve() in chain:
        names = " -> ".join(_shown(link) for link in (*chain, base_path.resolve()))
        raise_problems(own.name, [Problem(place, BASE_KEY, f"the files inherit in a circle: {names}")])
    if not base_path.is_file():
        near = ", ".join(sorted(item.name for item in base_path.parent.glob("*.yaml"))) or "no .yaml file"
        text = f"found {base!r}, but there is no file {base_path}; in that folder: {near}"
        raise_problems(own.name, [Problem(place, BASE_KEY, text)])


def merge(under: Source, over: Source) -> None:
    """Put `over` on top of `under`, in place: mappings are joined key by key, anything else is replaced.

    A mapping that names another TYPE than the one below it replaces it whole: the arguments of one part mean
    nothing to another.
    """
    _merge_trees(under, under.tree, over, over.tree, ())


def _merge_trees(under: Source, low: Tree, over: Source, high: Tree, path: KeyPath) -> None:
    for key, value in high.items():
        here = (*path, key)
        below = low.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and not _other_type(here, below, value):
            _merge_trees(under, below, over, value, here)
        else:
            for stale in [known for known in under.places if known[: len(here)] == here]:
                del under.places[stale]
            low[key] = value
            under.places.update(
                {known: place for known, place in over.places.items() if known[: len(here)] == here}
            )
        under.places[here] = over.place(here)


def _other_type(path: KeyPath, below: Tree, value: Tree) -> bool:
    return path[0] == "TASKS" and len(path) == 2 and "TYPE" in value and value["TYPE"] != below.get("TYPE")


def parse_option(text: str) -> Source:
    """Read one option, `TRAIN.LR=1e-4`; the value is YAML, so lists are written [1, 2].

    Raises:
        ConfigError: no `=`, an empty key, or a value that isn't YAML.
    """
    shown = f"{OPTION_FLAG} {text}"
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"{shown}: an option is KEY=VALUE with the full key, TRAIN.LR=1e-4 or DATA.STD=[0.2,0.2,0.2]"
        )
    if parts == [BASE_KEY]:
        raise ConfigError(f"{shown}: {BASE_KEY} can't be an option: it is read from the file only")
    try:
        plain = yaml.load(value, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{shown}: the value {value!r} isn't valid YAML: {error}") from error
    place = Place(shown)
    source = Source(shown)
    node: Tree = source.tree
    for length, part in enumerate(parts[:-1], start=1):
        node[part] = {}
        node = node[part]
        source.places[tuple(parts[:length])] = place
    node[parts[-1]] = "" if value.strip() == "" else plain
    source.places[tuple(parts)] = place
    for path in walk(node[parts[-1]], tuple(parts)):
        source.places[path] = place
    return source


def walk(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every key and item below `value`."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from walk(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield (*path, index)
            yield from walk(item, (*path, index))
