"""Typing errors in configurations: each must be refused, and the message must name what was meant.

A typing error is one edit of a name in a shipped YAML: a character inserted, left out, replaced, or two
neighbours exchanged. Keys are one list; values that are names (parts, data sets, splits, tasks, sequences)
another. An edit that gives another name that is allowed at that place is no typing error that anybody could
find; such edits are drawn again, and counted.
"""

from __future__ import annotations

import inspect
import random
import re
import shutil
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from tools.drill.row import Row

from mtltrack.cli.build import build_tracker
from mtltrack.cli.train_setup import need_rule
from mtltrack.core.config import Config, load_config
from mtltrack.core.errors import DataError, MtltrackError
from mtltrack.core.paths import checkout_root
from mtltrack.core.registry import BACKBONES, BALANCING, DATASETS, HEADS, TRANSFORMS
from mtltrack.data.build import NAMED, build_dataset, build_transforms

CHARACTERS = string.ascii_uppercase + string.digits + "_"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]+")
FREE_KEYS = ("ROOT", "PRETRAIN_FILE", "BASE")  # values that are paths: another path is another file
SEEDS = (0, 1, 2, 3, 4)
TYPOS, RIGHT = 50, 45  # drawn with each seed; suggestions of them that must be right


@dataclass(frozen=True)
class Spot:
    """A name in a YAML file.

    Attributes:
        file: the file.
        path: of the key, or of the value's key.
        name: as it is written.
        start: place of its first character in the file.
    """

    file: Path
    path: tuple[str | int, ...]
    name: str
    start: int


@dataclass(frozen=True)
class Typo:
    """A name that was written wrong.

    Attributes:
        spot: where, and what was meant.
        written: what stands there instead.
        answer: the error's text; None where the configuration was accepted.
    """

    spot: Spot
    written: str
    answer: str | None = None

    @property
    def refused(self) -> bool:
        return self.answer is not None

    @property
    def right(self) -> bool:
        """Whether the message names what was meant, first or as one of two."""
        near = re.findall(r"Did you mean ([^?]*)\?", self.answer or "")
        return any(f"'{self.spot.name}'" in text for text in near)


def shipped(root: Path | None = None) -> list[Path]:
    """Return the configurations of the checkout."""
    return sorted(((root or checkout_root() or Path.cwd()) / "experiments").glob("*/*.yaml"))


def key_spots(file: Path) -> list[Spot]:
    """Return the keys of a file that the project defines; what users name is a value (`value_spots`)."""
    return [spot for spot, is_key in _spots(file) if is_key and not _is_named_by_user(spot.path)]


def value_spots(file: Path) -> list[Spot]:
    """Return the names that stand as values, and the keys that are names: tasks and sequences."""
    spots = _spots(file)
    return [
        spot
        for spot, is_key in spots
        if (_is_named_by_user(spot.path) if is_key else NAME.fullmatch(spot.name) and not _is_free(spot.path))
    ]


def _is_named_by_user(path: tuple[str | int, ...]) -> bool:
    return len(path) > 1 and path[-2] in ("TASKS", "RANGES")


def _is_free(path: tuple[str | int, ...]) -> bool:
    return path[-1] in FREE_KEYS


def _spots(file: Path) -> list[tuple[Spot, bool]]:
    text = file.read_text(encoding="utf-8")
    found: list[tuple[Spot, bool]] = []

    def walk(node: yaml.Node, path: tuple[str | int, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                found.append((Spot(file, here, str(key.value), key.start_mark.index), True))
                walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                walk(item, (*path, index))
        elif node.tag == "tag:yaml.org,2002:str" and node.style is None:
            found.append((Spot(file, path, str(node.value), node.start_mark.index), False))

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        walk(root, ())
    return [item for item in found if text.startswith(item[0].name, item[0].start)]


def misspell(name: str, rng: random.Random) -> str:
    """Return a name with one edit: insert, delete, substitute or transpose."""
    letters = CHARACTERS if name.isupper() else CHARACTERS + string.ascii_lowercase
    while True:
        place, letter = rng.randrange(len(name)), rng.choice(letters)
        head, tail = name[:place], name[place:]
        edits = (
            head + letter + tail,
            head + tail[1:],
            head + letter + tail[1:],
            head + tail[1:2] + tail[:1] + tail[2:],
        )
        written = rng.choice(edits)
        if written != name and NAME.fullmatch(written):  # a name still, not a number or null
            return written


def make_typos(spots: Sequence[Spot], count: int, seed: int) -> Iterator[Typo]:
    """Yield typing errors, each at a spot drawn from all of them, files alike."""
    rng = random.Random(seed)
    files = sorted({spot.file for spot in spots})
    by_file = {file: [spot for spot in spots if spot.file == file] for file in files}
    for _ in range(count):
        spot = rng.choice(by_file[rng.choice(files)])
        yield Typo(spot, misspell(spot.name, rng))


def answer_to(typo: Typo, folder: Path) -> str | None:
    """Return how a run that is started with the typing error ends before it reads data; None: it doesn't."""
    copy = folder / typo.spot.file.parent.name
    if not copy.is_dir():
        shutil.copytree(typo.spot.file.parent, copy)
    text = typo.spot.file.read_text(encoding="utf-8")
    start, end = typo.spot.start, typo.spot.start + len(typo.spot.name)
    path = copy / f"typo_{typo.spot.file.name}"
    path.write_text(text[:start] + typo.written + text[end:], encoding="utf-8")
    return start_of_run(path, copy.name, typo.spot.path)


def start_of_run(path: Path, script: str, edited: tuple[str | int, ...]) -> str | None:
    """Do what training does at its start as far as the edited key has a part in it; return the error."""
    try:
        cfg = load_config(path, script=script)
        need_rule(cfg)
        build_transforms(cfg.DATA.TRANSFORMS)
        if edited[0] in ("TASKS", "MODEL"):
            with torch.device("meta"):  # names and shapes, no weights
                build_tracker(cfg, script)
        if edited[0] == "DATA" and "DATASETS_NAME" in edited:
            _build_entry(cfg, edited)
    except MtltrackError as error:
        return str(error)
    return None


def _build_entry(cfg: Config, edited: tuple[str | int, ...]) -> None:
    section: Any = cfg.DATA.TRAIN if "TRAIN" in edited else cfg.DATA.VAL
    entry = section.DATASETS_NAME[int(edited[edited.index("DATASETS_NAME") + 1])]
    try:
        build_dataset(entry)
    except DataError as error:
        if "Did you mean" in str(error) or "unknown" in str(error):
            raise
        # the data set isn't on this machine: that has nothing to do with the name


def drill(spots: Sequence[Spot], count: int, seed: int, folder: Path) -> tuple[list[Typo], int]:
    """Make `count` typing errors and start a run with each.

    Returns:
        The errors with the answers, and how many edits gave another allowed name and were drawn again.
    """
    answered: list[Typo] = []
    other_names = 0
    for typo in make_typos(spots, 10 * count, seed):
        if len(answered) == count:
            break
        if typo.written in allowed_names():
            other_names += 1
            continue
        answered.append(Typo(typo.spot, typo.written, answer_to(typo, folder)))
    return answered, other_names


@cache
def allowed_names() -> frozenset[str]:
    """Return every name that a configuration may hold somewhere: keys, arguments and names of parts."""
    names = set(NAMED)
    _collect(Config.model_json_schema(), names)
    for registry in (BACKBONES, HEADS, DATASETS, TRANSFORMS, BALANCING):
        registry.import_from_location()
        for name, part in registry.module_dict.items():
            names |= {name, *(argument.upper() for argument in inspect.signature(part).parameters)}
    return frozenset(names)


def _collect(node: Any, names: set[str]) -> None:
    if isinstance(node, dict):
        names |= set(node.get("properties", ())) | {str(value) for value in node.get("enum", ())}
        names |= {str(node["const"])} if "const" in node else set()
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _collect(inner, names)


def run(short: bool, folder: Path) -> list[Row]:
    """Make typing errors in keys and in names, with several seeds; the short drill takes one."""
    rows = []
    for title, spots_of in (("key", key_spots), ("name given as a value", value_spots)):
        spots = [spot for file in shipped() for spot in spots_of(file)]
        for seed in SEEDS[: 1 if short else None]:
            typos, _ = drill(spots, TYPOS, seed, folder)
            rows.append(_row(f"{TYPOS} one-edit typing errors, {title}, seed {seed}", typos))
    if not short:
        spots = [spot for file in shipped() for spot in key_spots(file)]
        typos, _ = drill(spots, 1000, len(SEEDS), folder)
        rows.append(_row("1000 one-edit typing errors, key", typos))
    return rows


def _row(check: str, typos: Sequence[Typo]) -> Row:
    refused, right = sum(typo.refused for typo in typos), sum(typo.right for typo in typos)
    least = -(-len(typos) * RIGHT // TYPOS)
    return Row(
        check,
        f"all refused, at least {least} with the right suggestion",
        f"{refused} refused, {right} with the right suggestion",
        refused == len(typos) and right >= least,
    )
