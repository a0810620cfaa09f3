"""Checkpoints: the weights for everyone, and beside them what resuming needs.

Both load with `torch.load(..., weights_only=True)`.
"""

from __future__ import annotations

import os
import pickle
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtltrack.core.errors import CheckpointError

RESUME_SUFFIX = ".resume.pt"
WEIGHTS_SUFFIX = ".pth.tar"
EARLIER = "earlier"
RESUME_FORMAT = 4
_EPOCH = re.compile(r"_ep(\d+)(?:\.resume\.pt|\.pth\.tar)$")


@dataclass(frozen=True)
class CheckpointFolder:
    """Names of a run's checkpoint files: `<folder>/<NetType>_ep%04d.pth.tar`.

    Attributes:
        folder: `<save_dir>/checkpoints/train/<script>/<config>`.
        net_type: name of the model's kind, such as HIPTrack.
    """

    folder: Path
    net_type: str

    @classmethod
    def of_run(cls, save_dir: str | Path, script: str, config: str, net_type: str) -> CheckpointFolder:
        return cls(Path(save_dir) / "checkpoints" / "train" / script / config, net_type)

    def weights_file(self, epoch: int) -> Path:
        return self.folder / f"{self.net_type}_ep{epoch:04d}{WEIGHTS_SUFFIX}"

    def resume_file(self, epoch: int) -> Path:
        return self.folder / f"{self.net_type}_ep{epoch:04d}{RESUME_SUFFIX}"

    def resume_files(self) -> list[Path]:
        """Return the resume files that exist, oldest epoch first."""
        return sorted(self.folder.glob(f"{self.net_type}_ep*{RESUME_SUFFIX}"), key=epoch_of)


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


def epoch_of(path: Path) -> int:
    """Return the epoch in a checkpoint's file name.

    Raises:
        CheckpointError: the name has none.
    """
    found = _EPOCH.search(path.name)
    if found is None:
        raise CheckpointError(
            f"{path}: the name doesn't end in _ep<number>{WEIGHTS_SUFFIX} or _ep<number>{RESUME_SUFFIX}"
        )
    return int(found.group(1))


def newest_weights(folder: Path) -> Path:
    """Return the weights file with the highest epoch in `folder`.

    Raises:
        CheckpointError: there is none.
    """
    files = sorted(
        (file for file in folder.glob(f"*{WEIGHTS_SUFFIX}") if _EPOCH.search(file.name)), key=epoch_of
    )
    if not files:
        raise CheckpointError(
            f"no checkpoint (*_ep<number>{WEIGHTS_SUFFIX}) in {folder}; train that configuration first"
        )
    return files[-1]


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
    """Write a torch file so that `path` holds its old content or all of the new, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows can't open a folder
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_weights(path: Path, net: nn.Module, about: Description, *, epoch: int, stage: str) -> None:
    """Write the checkpoint that testing, fine-tuning and other tools read.

    Args:
        path: where to write.
        net: the model, without any wrapper.
        about: what the file says about the model.
        epoch: epochs trained, counted over all stages.
        stage: name of the stage that the epoch belongs to.
    """
    content = {
        "net": net.state_dict(),
        "net_type": about.net_type,
        "epoch": epoch,
        "stage": stage,
        "config": about.config,
        "classes": list(about.classes),
        "alphabet": about.alphabet,
    }
    write_atomically(plain(content), path)


def save_resume(folder: CheckpointFolder, epoch: int, state: Mapping[str, Any]) -> Path:
    """Write the newest resume file, then delete the older ones.

    Call it after `save_weights` of the same epoch: whenever the process dies, the newest resume file has its
    weights.
    """
    path = folder.resume_file(epoch)
    weights = folder.weights_file(epoch).name
    write_atomically(plain({"format": RESUME_FORMAT, "weights": weights, "epoch": epoch, **state}), path)
    for old in folder.resume_files():
        if old != path:
            old.unlink(missing_ok=True)
    return path


def set_aside(folder: CheckpointFolder) -> Path | None:
    """Move the checkpoints of an earlier run to `<folder>/earlier/<date>`, out of the way of a new run's.

    Left where they are, those of higher epochs would be taken for the new run's newest.

    Returns:
        Where they lie now, None if there were none.
    """
    weights = folder.folder.glob(f"{folder.net_type}_ep*{WEIGHTS_SUFFIX}")
    # resume files first: one without its weights would be an error, weights alone are none
    files = [*folder.resume_files(), *(file for file in weights if _EPOCH.search(file.name))]
    if not files:
        return None
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    aside = folder.folder / EARLIER / now
    count = 1
    while aside.exists():
        count += 1
        aside = folder.folder / EARLIER / f"{now}_{count}"
    aside.mkdir(parents=True)
    for file in files:
        file.replace(aside / file.name)
    return aside


# ---------------------------------------------------------------------------------------------------- reading


def find_resume(folder: CheckpointFolder, choice: str) -> Path | None:
    """Return the resume file that `--resume` means, or None to start afresh.

    Args:
        folder: the run's files.
        choice: "never", "auto" (the newest of this run, if any) or the path of a resume file or of its
            checkpoint.

    Raises:
        CheckpointError: the named file doesn't exist or has nothing to resume from.
    """
    if choice == "never":
        return None
    if choice == "auto":
        files = folder.resume_files()
        return files[-1] if files else None
    path = Path(choice).expanduser()
    if path.name.endswith(WEIGHTS_SUFFIX):
        path = path.with_name(path.name.removesuffix(WEIGHTS_SUFFIX) + RESUME_SUFFIX)
    if not path.is_file():
        there = ", ".join(file.name for file in folder.resume_files()) or "none"
        raise CheckpointError(
            f"--resume {choice}: {path} doesn't exist. Only the newest epoch of a run can be resumed; in "
            f"{folder.folder}: {there}. To start from weights alone, name them in MODEL.PRETRAIN_FILE."
        )
    return path


def load_resume(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a resume file and the checkpoint that belongs to it.

    Returns:
        The resume state and the checkpoint, tensors on the CPU.

    Raises:
        CheckpointError: a file is damaged, of another format, or the checkpoint is gone.
    """
    state = _load(path)
    if state.get("format") != RESUME_FORMAT:
        raise CheckpointError(
            f"{path}: resume format {state.get('format')}; this version reads {RESUME_FORMAT}. "
            "Use --resume never to start afresh, or finish the run with the version that began it"
        )
    weights = path.with_name(str(state["weights"]))
    if not weights.is_file():
        raise CheckpointError(
            f"{path} needs {weights.name} beside it, which is gone; use --resume never to start afresh"
        )
    return state, _load(weights)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} can't be read, it may be damaged; use --resume never: {error}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; wanted a dict written by this program"
        )
    return content
