"""Checkpoints: the weights for everyone, and beside them what resuming needs.

Both load with `torch.load(..., weights_only=True)`, and both carry their own digest, see `core.seal`.
"""

from __future__ import annotations

import os
import pickle
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtltrack.core.errors import CheckpointError
from mtltrack.core.seal import check_seal, seal

RESUME_FORMAT = 5


class DamagedError(CheckpointError):
    """A file isn't what was written; an older one may be."""


@dataclass(frozen=True)
class Description:
    """What a checkpoint says about its model.

    Attributes:
        net_type: the model's kind, such as HIPTrack.
        config: the whole configuration as plain types.
        classes: names of the scene conditions in the order of the head's outputs; empty without such a head.
        alphabet: the characters of the text head, None without one.
    """

    net_type: str
    config: Mapping[str, Any]
    classes: Sequence[str] = ()
    alphabet: str | None = None


# ---------------------------------------------------------------------------------------------------- writing


def plain(value: Any) -> Any:
    """Return `value` as plain types and detached CPU tensors that own exactly their storage.

    Raises:
        CheckpointError: it holds an object that only unsafe unpickling could read back.
    """
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [plain(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, bool | int | float | str):  # enum members and numpy's float64 among them
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise CheckpointError(
        f"a checkpoint holds plain types and tensors only; found {type(value).__name__}: {value!r}"
    )


def write_atomically(content: Mapping[str, Any], path: Path) -> None:
    """Write a sealed torch file: `path` holds its old content or all of the new, also after a power cut.

    Raises:
        CheckpointError: it can't be written, as on a full disk; nothing is left of the attempt.
    """
    try:
        _write(dict(content), path)
    except (OSError, RuntimeError) as error:  # torch's writer makes the one of the other
        raise CheckpointError(
            f"{path} can't be written ({_reason(error)}). The checkpoints before it are as they were: "
            "make room, and the same command goes on from them"
        ) from error


def _write(content: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x+b") as file:
            torch.save(content, file)
            seal(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _reason(error: BaseException) -> str:
    """Return what the system said; torch's writer hides it behind an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return (str(error).splitlines() or [type(error).__name__])[0]


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows can't open a folder
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_weights(
    path: Path, net: Mapping[str, Any] | nn.Module, about: Description, *, epoch: int, stage: str
) -> None:
    """Write the checkpoint that testing, fine-tuning and other tools read.

    Args:
        path: where to write.
        net: the model without any wrapper, or its state dict.
        about: what the file says about the model.
        epoch: epochs trained, counted over all stages.
        stage: name of the stage that the epoch belongs to.
    """
    state = net.state_dict() if isinstance(net, nn.Module) else net
    write_atomically(plain(weights_content(state, about, epoch=epoch, stage=stage)), path)


def weights_content(
    state: Mapping[str, Any], about: Description, *, epoch: int, stage: str
) -> dict[str, Any]:
    """Return what a weights file holds."""
    return {
        "net": state,
        "net_type": about.net_type,
        "epoch": epoch,
        "stage": stage,
        "config": about.config,
        "classes": list(about.classes),
        "alphabet": about.alphabet,
    }


def save_resume(path: Path, state: Mapping[str, Any], weights: str | Mapping[str, Any]) -> None:
    """Write a resume file.

    Args:
        path: see `CheckpointFolder.resume_file`.
        state: what resuming needs beside the weights.
        weights: name of the weights file beside it, which must have been written before: whenever the process
            dies, a resume file has its weights. Or the content of one, to stand in this file.
    """
    write_atomically(plain({"format": RESUME_FORMAT, "weights": weights, **state}), path)


# ---------------------------------------------------------------------------------------------------- reading


_NO_OTHER = (
    "There is no other to fall back to: --resume PATH names one, --resume never starts afresh and moves the "
    "files to the sub-folder earlier"
)
Saved = tuple[dict[str, Any], dict[str, Any]]


def load_resume(path: Path) -> Saved:
    """Read a resume file and the checkpoint that belongs to it.

    Returns:
        The resume state and the checkpoint, tensors on the CPU.

    Raises:
        DamagedError: a file isn't what was written, or the checkpoint is gone.
        CheckpointError: the file is of another format.
    """
    state = _load(path)
    if state.get("format") != RESUME_FORMAT:
        raise CheckpointError(
            f"{path}: resume format {state.get('format')}; this version reads {RESUME_FORMAT}. Finish "
            "the run with the version that began it, begin a new one with its weights (--script_prv, "
            "--config_prv), or use --resume never to start afresh"
        )
    inside = state.pop("weights")
    if isinstance(inside, dict):
        return state, inside
    weights = path.with_name(str(inside))
    if not weights.is_file():
        raise DamagedError(f"{path} needs {weights.name} beside it, which is gone")
    return state, _load(weights)


def load_newest(paths: Sequence[Path], say: Callable[[str], None]) -> tuple[Path, Saved] | None:
    """Read the first of some resume files that can be read.

    Args:
        paths: from `files.find_resume`, the newest first.
        say: told of each one that can't, and of what is taken instead.

    Returns:
        The file and what it holds; None without any path.

    Raises:
        CheckpointError: none of them can be read, or one is of another format.
    """
    for number, path in enumerate(paths):
        try:
            return path, load_resume(path)
        except DamagedError as error:
            if number == len(paths) - 1:
                raise DamagedError(f"{error}. {_NO_OTHER}") from error
            say(f"WARNING: {error}. Going back to the state before it, {paths[number + 1].name}")
    return None


def _load(path: Path) -> dict[str, Any]:
    try:
        sealed = check_seal(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError as error:
        raise DamagedError(str(error)) from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise DamagedError(f"{path} can't be read ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise DamagedError(f"{path} holds a {type(content).__name__}; wanted a dict written by this program")
    if not sealed and content.get("format") == RESUME_FORMAT:
        raise DamagedError(f"{path} has lost its digest: it isn't the file that was written")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
