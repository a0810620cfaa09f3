"""Where things lie on this machine: the checkout, data sets, weights, outputs."""

from __future__ import annotations

import os
import re
import tempfile
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from mtltrack.core.errors import ConfigError, DataError, did_you_mean

LOCAL_FILE = "local.yaml"
LOCAL_VARIABLE = "MTLTRACK_LOCAL"
CREATE_COMMAND = "python tracking/create_default_local_file.py"
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


def checkout_root() -> Path | None:
    """Return the folder of the checkout that this package runs from; None when it was installed."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "experiments").is_dir() and (root / "lib" / "mtltrack").is_dir() else None


def _beside_checkout(variable: str, name: str) -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given).expanduser().resolve()
    return ((checkout_root() or Path.cwd()).parent / "shared" / name).resolve()


def test_data_root() -> Path:
    """Return the folder of real test data: $MTLTRACK_DATA, or ../shared/data; it may not exist."""
    return _beside_checkout("MTLTRACK_DATA", "data")


test_data_root.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def references_root() -> Path:
    """Return the folder of reference outputs: $MTLTRACK_REFERENCES, or ../shared/parity; it may not exist."""
    return _beside_checkout("MTLTRACK_REFERENCES", "parity")


def expand_path(text: str | Path) -> Path:
    """Return a path with ~, ${VAR} and $VAR replaced; ${MTLTRACK_DATA} has a default, see `test_data_root`.

    Raises:
        ConfigError: a variable isn't set; it is named.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = os.environ.get(name)
        if found:
            return found
        if name == "MTLTRACK_DATA":
            return str(test_data_root())
        raise ConfigError(
            f"the path '{text}' holds ${{{name}}}, but the environment variable {name} is not set."
        )

    return Path(_VARIABLE.sub(value, str(text))).expanduser()


@lru_cache
def known_roots() -> dict[str, dict[str, dict[str, str]]]:
    """Return the table of data sets: {"training"|"testing": {key: {folder, about, shares?}}}."""
    table: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(
        files("mtltrack.core").joinpath("dataset_roots.yaml").read_text(encoding="utf-8")
    )
    return table


def _root_table() -> dict[str, dict[str, str]]:
    return {key: entry for group in known_roots().values() for key, entry in group.items()}


class LocalSettings(BaseModel):
    """The folders of this machine, `local.yaml`. Relative paths count from the file's folder.

    Attributes:
        workspace_dir: folder that the others lie in by default.
        data_dir: folder of the data sets that `roots` doesn't name.
        save_dir: folder of checkpoints, logs and results.
        pretrained_dir: folder in which MODEL.PRETRAIN_FILE is looked for.
        roots: data set key -> its folder.
        file: the file that was read, or None where there was none.
    """

    model_config = ConfigDict(extra="forbid")

    workspace_dir: Path
    data_dir: Path
    save_dir: Path
    pretrained_dir: Path
    roots: dict[str, Path] = {}
    file: Path | None = None

    @field_validator("roots", mode="before")
    @classmethod
    def _no_empty_roots(cls, roots: Any) -> Any:
        if roots is None:
            return {}
        return (
            {key: path for key, path in roots.items() if path is not None}
            if isinstance(roots, dict)
            else roots
        )


def _find_local_file() -> Path | None:
    given = os.environ.get(LOCAL_VARIABLE)
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"{LOCAL_VARIABLE} names {path}, but there is no such file; write it with `{CREATE_COMMAND}`."
            )
        return path
    folders = [Path.cwd(), checkout_root()]
    return next(
        (folder / LOCAL_FILE for folder in folders if folder and (folder / LOCAL_FILE).is_file()), None
    )


def local_settings() -> LocalSettings:
    """Read `local.yaml`: $MTLTRACK_LOCAL, or that of the current folder, or that of the checkout.

    Without one the workspace is the checkout (or the current folder) with data/, output/, pretrained_models/.

    Raises:
        ConfigError: the file isn't YAML, or holds an unknown key or an unknown data set.
    """
    path = _find_local_file()
    if path is None:
        return _with_defaults({}, checkout_root() or Path.cwd(), None)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} isn't valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must be a mapping of keys; write a new one with `{CREATE_COMMAND}`.")
    return _with_defaults(values, path.resolve().parent, path)


def _with_defaults(values: dict[str, Any], folder: Path, file: Path | None) -> LocalSettings:
    known = [name for name in LocalSettings.model_fields if name != "file"]
    for key in values:
        if key not in known:
            raise ConfigError(
                f"{file}: unknown key '{key}'.{did_you_mean(str(key), known)} Allowed: {', '.join(known)}."
            )
    workspace = folder / expand_path(values.get("workspace_dir") or ".")
    merged: dict[str, Any] = {"workspace_dir": workspace, "file": file, "roots": values.get("roots")}
    for key, default in (
        ("data_dir", "data"),
        ("save_dir", "output"),
        ("pretrained_dir", "pretrained_models"),
    ):
        given = values.get(key)
        merged[key] = folder / expand_path(given) if given else workspace / default
    try:
        settings = LocalSettings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{file}: {where}: found {first['input']!r}; allowed: a path.") from error
    table = _root_table()
    for key, root in settings.roots.items():
        if key not in table:
            near = did_you_mean(key, table)
            raise ConfigError(f"{file}: roots.{key}: unknown data set.{near} Allowed: {', '.join(table)}.")
        settings.roots[key] = folder / expand_path(root)
    return settings


def need_writable(folder: Path, named_by: str) -> None:
    """Make sure that files can be written into a folder, before hours of work whose result goes there.

    Args:
        folder: made if it isn't there.
        named_by: the option or key that names it.

    Raises:
        ConfigError: nothing can be written there; says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(
            f"{named_by}: nothing can be written to {folder} ({error.strerror or error}). Name a folder on a "
            "disk that has room and that you may write to."
        ) from error


def dataset_root(key: str) -> Path:
    """Return the folder of a data set: roots.<key> of `local.yaml`, or its usual name below data_dir.

    Raises:
        DataError: the key is unknown, or the folder doesn't exist; the message says what to write where.
    """
    table = _root_table()
    if key not in table:
        raise DataError(
            f"'{key}' is not the key of a data set.{did_you_mean(key, table)} Known: {', '.join(table)}."
        )
    settings = local_settings()
    shared = table[key].get("shares", key)
    root = settings.roots.get(key) or settings.roots.get(shared) or settings.data_dir / table[key]["folder"]
    if root.is_dir():
        return root
    if settings.file is None:
        fix = f"There is no {LOCAL_FILE}: run `{CREATE_COMMAND}` and write the folder under roots.{key}."
    else:
        fix = f"Edit roots.{key} (or data_dir) in {settings.file}."
    raise DataError(
        f"the data set '{key}' ({table[key]['about']}) was looked for at {root}, which is not a folder. {fix}"
    )
