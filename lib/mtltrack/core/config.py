"""Load and check a configuration: a typed tree with the YAML's own names, as in `cfg.DATA.SEARCH.SIZE`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from mtltrack.core import config_check
from mtltrack.core.config_contradictions import contradictions
from mtltrack.core.config_effects import sentences_without_effect
from mtltrack.core.errors import ConfigError, did_you_mean
from mtltrack.core.paths import checkout_root
from mtltrack.core.schema import Data, TaskConfig, TaskName, Test, Train
from mtltrack.core.schema_model import Model
from mtltrack.core.schema_types import Section
from mtltrack.core.yaml_source import (
    KeyPath,
    Problem,
    Source,
    key_text,
    merge,
    parse_option,
    raise_problems,
    read_with_bases,
)

CLS_HEAD_TYPE = "ClsHead"
DEFAULT_TASK_WEIGHTS = {"cls": 0.1}
HIPTRACK_SEARCH_FRAMES = 3  # the one published default that differs between the models and matters


class Config(Section):
    """A checked configuration. Made by `load_config` or `config_from_dict`, never filled by hand."""

    DATA: Data = Data()
    MODEL: Model = Model()
    TRAIN: Train = Train.model_validate({})
    TEST: Test = Test()
    TASKS: dict[TaskName, TaskConfig] = Field(
        default={}, description="The task heads by name; the box is implicit."
    )
    _source: Source = PrivateAttr(default_factory=lambda: Source("defaults"))
    _script: str | None = PrivateAttr(None)

    @field_validator("TASKS", mode="before")
    @classmethod
    def _drop_null_tasks(cls, tasks: Any) -> Any:
        if isinstance(tasks, dict):
            return {name: block for name, block in tasks.items() if block is not None}
        return tasks

    def dump(self) -> dict[str, Any]:
        """Return the whole configuration as plain values; `config_from_dict` reads it."""
        return self.model_dump(mode="python")

    def task_weight(self, task: str) -> float:
        """Return lambda of a task, TRAIN.<TASK>_WEIGHT: 0.1 for cls and 1 for any other unless given."""
        weights = self.TRAIN.model_extra or {}
        return float(weights.get(f"{task.upper()}_WEIGHT", DEFAULT_TASK_WEIGHTS.get(task, 1.0)))

    @property
    def script(self) -> str:
        """Return the model that the configuration is for: as given, or the name of its file's folder.

        Raises:
            ConfigError: it was made from plain values without naming one.
        """
        if self._script is None:
            raise ConfigError(f"{self._source.name}: name the model, script='hiptrack' or script='ostrack'")
        return self._script

    def stage_lengths(self) -> list[int]:
        """Return the epochs of each stage: [EPOCH], or box, stage 1 and stage 2 under TWO_STAGE."""
        train = self.TRAIN
        return (
            [train.BOX_EPOCHS, train.STAGE1_EPOCHS, train.STAGE2_EPOCHS] if train.TWO_STAGE else [train.EPOCH]
        )

    def last_epoch(self) -> int:
        """Return the epochs of a whole training."""
        return sum(self.stage_lengths())

    def is_given(self, key: str) -> bool:
        """Return whether a key was written in the YAML, one of its bases or an option, with a value."""
        path: KeyPath = tuple(key.split("."))
        return path in self._source.places and self._source.value(path) is not None

    def source_line(self, key: str) -> str:
        """Return where a key was written, "file:line" or the option; the file alone when it has its default.

        Args:
            key: the full key, "TRAIN.LR".
        """
        return str(self._source.place(tuple(key.split("."))))

    def without_effect(self, script: str) -> list[str]:
        """Return one sentence for each key that was written down and has no effect on the model `script`."""
        return sentences_without_effect(self, script)


def load_config(path: str | Path, options: Sequence[str] = (), script: str | None = None) -> Config:
    """Load a YAML file, the files that its BASE names, and options on top; check everything.

    Args:
        path: the YAML file.
        options: "KEY=VALUE" texts, `["TRAIN.LR=1e-4"]`; a later one wins.
        script: the model, "hiptrack" or "ostrack"; the name of the file's folder when not given. It decides
            only DATA.SEARCH.NUMBER where no file gives it: 3 for hiptrack, otherwise 1, as published.

    Raises:
        ConfigError: every problem of the file, each with place, key, what was found and what is allowed.
    """
    source = read_with_bases(path)
    for option in options:
        merge(source, parse_option(option))
    return _checked(source, script or Path(path).resolve().parent.name)


def config_from_dict(values: dict[str, Any], name: str = "given values", script: str | None = None) -> Config:
    """Make a configuration from plain values: `Config.dump()`'s, or those of a test.

    Args:
        values: nested dictionaries with the YAML's keys.
        name: what messages call it, "the checkpoint x.pth.tar".
        script: as in `load_config`.

    Raises:
        ConfigError: as `load_config`, with `name` in the place of the file; or a key isn't a text.
    """
    _need_text_keys(name, values, ())
    return _checked(Source(name, deepcopy(values)), script)


def _need_text_keys(name: str, value: Any, path: KeyPath) -> None:
    """Make sure that every key is a text, as those of a YAML file are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                where = key_text(path) or "the configuration"
                raise ConfigError(
                    f"{name}: {where} has the key {key!r} of type {type(key).__name__}; allowed: texts, "
                    "as TRAIN or LR"
                )
            _need_text_keys(name, inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _need_text_keys(name, inner, (*path, index))


def _checked(source: Source, script: str | None) -> Config:
    tree = deepcopy(source.tree)
    problems = config_check.take_unknown_keys(Config, source, tree)
    _name_cls_head(tree)
    cfg, refused = _validate(source, tree, problems)
    _fill_defaults(cfg, script)
    cfg._source, cfg._script = source, script
    for cross in contradictions(cfg):
        if not any(path[: len(bad)] == bad for path in cross.paths for bad in refused):
            problems.append(cross.problem(source))
    raise_problems(source.name, sorted(problems, key=lambda problem: problem.order(source.name)))
    return cfg


def _validate(source: Source, tree: dict[str, Any], problems: list[Problem]) -> tuple[Config, list[KeyPath]]:
    """Validate the tree; values of a wrong type are reported, taken out and replaced by their defaults."""
    refused: list[KeyPath] = []
    while True:
        try:
            return Config.model_validate(tree), refused
        except ValidationError as error:
            if not refused:
                problems.extend(config_check.type_problems(Config, error, source))
            refused.extend(config_check.take_refused(error, tree))


def _name_cls_head(tree: dict[str, Any]) -> None:
    """Let TASKS.cls go without a TYPE where MODEL.CLS_HEAD, its other spelling, is given."""
    model, tasks = tree.get("MODEL"), tree.get("TASKS")
    if isinstance(model, dict) and model.get("CLS_HEAD") is not None and isinstance(tasks, dict):
        if isinstance(tasks.get("cls"), dict):
            tasks["cls"].setdefault("TYPE", CLS_HEAD_TYPE)


def _fill_defaults(cfg: Config, script: str | None) -> None:
    """Fill the defaults that follow from other keys."""
    if script == "hiptrack" and "NUMBER" not in cfg.DATA.SEARCH.model_fields_set:
        cfg.DATA.SEARCH.NUMBER = HIPTRACK_SEARCH_FRAMES
    if cfg.DATA.SAMPLER_MODE == "stark":
        cfg.DATA.SAMPLER_MODE = "trident"
    if cfg.MODEL.CLS_HEAD is not None:
        given = cfg.MODEL.CLS_HEAD.model_dump(exclude_none=True)
        block = cfg.TASKS.get("cls")
        merged = {"TYPE": CLS_HEAD_TYPE, **given, **({} if block is None else block.model_dump())}
        cfg.TASKS["cls"] = TaskConfig.model_validate(merged)
    follow = {
        "EPOCH": cfg.last_epoch(),
        "SEARCH_SIZE": cfg.DATA.SEARCH.SIZE,
        "SEARCH_FACTOR": cfg.DATA.SEARCH.FACTOR,
        "TEMPLATE_SIZE": cfg.DATA.TEMPLATE.SIZE,
        "TEMPLATE_FACTOR": cfg.DATA.TEMPLATE.FACTOR,
    }
    for key, value in follow.items():
        if key not in cfg.TEST.model_fields_set:
            setattr(cfg.TEST, key, value)


def find_config(script: str, config: str) -> Path:
    """Return the file experiments/<script>/<config>.yaml, of the current folder or else of the checkout.

    Raises:
        ConfigError: there is none; the message lists those that exist.
    """
    roots = [Path.cwd()]
    checkout = checkout_root()
    if checkout is not None and checkout != roots[0]:
        roots.append(checkout)
    name = config.removesuffix(".yaml")
    for root in roots:
        path = root / "experiments" / script / f"{name}.yaml"
        if path.is_file():
            return path
    raise ConfigError(_missing_config(script, name, roots))


def _missing_config(script: str, name: str, roots: list[Path]) -> str:
    found: dict[str, set[str]] = {}
    for root in roots:
        for path in (root / "experiments").glob("*/*.yaml"):
            found.setdefault(path.parent.name, set()).add(path.stem)
    searched = ", ".join(str(root / "experiments") for root in roots)
    if script not in found:
        have = ", ".join(sorted(found)) or "none"
        near = did_you_mean(script, found)
        return f"no configurations for the script '{script}'.{near} Scripts: {have}. Searched: {searched}."
    have = ", ".join(sorted(found[script]))
    return (
        f"no configuration '{name}' for the script '{script}'.{did_you_mean(name, found[script])} "
        f"Those of {script}: {have}. Searched: {searched}."
    )
