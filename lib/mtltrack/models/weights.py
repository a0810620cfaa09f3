"""Weights files: read without executing anything in them, loaded with every key accounted for."""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mtltrack.core.errors import CheckpointError

HISTORY_PREFIXES = ("HIP.", "key_proj.", "key_comp.", "searchRegionFusion.")
TEMPORAL_KEYS = ("backbone.temporal_pos_embed_x", "backbone.temporal_pos_embed_z")
POSITION_KEYS = ("backbone.pos_embed_z", "backbone.pos_embed_x")


# what a damaged or hostile file can raise on its way through a reader
_MALFORMED = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, SafetensorError),
    *(KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError),
    *(EOFError, OSError, RuntimeError, MemoryError),
)


_HIPTRACK_ONLY = (*HISTORY_PREFIXES, *TEMPORAL_KEYS)


class Placeholder:
    """Stands for an object of a foreign class; keeps nothing and does nothing."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        del arguments, named

    def __setstate__(self, state: Any) -> None:
        del state

    def __setitem__(self, key: Any, value: Any) -> None:
        del key, value

    def append(self, value: Any) -> None:
        """Pickle fills list-like objects through this."""
        del value

    def extend(self, values: Any) -> None:
        """Pickle fills list-like objects through this."""
        del values

    def add(self, value: Any) -> None:
        """Pickle fills set-like objects through this."""
        del value


_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Sealed:
    """Something that a pickle may call but not change, though a hostile file may try to."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the file tries to change its reader")


class _StorageType(_Sealed):
    """Names the type of a stored tensor."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _RebuildTensor(_Sealed):
    """Stands for torch's function that makes a tensor of stored values."""

    __slots__ = ()

    def __call__(
        self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        if not isinstance(storage, Tensor) or math.prod(size) > storage.numel():
            raise pickle.UnpicklingError("a tensor larger than its stored values")
        return torch.as_strided(storage, size, stride, offset).clone()


class _RebuildParameter(_Sealed):
    """Stands for torch's function that makes a parameter of a tensor; the tensor is enough."""

    __slots__ = ()

    def __call__(self, data: Tensor, *_: Any) -> Tensor:
        return data


_ALLOWED: dict[tuple[str, str], Callable[[], Any]] = {  # made anew for each use
    ("collections", "OrderedDict"): lambda: OrderedDict,
    ("torch", "Size"): lambda: tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor,
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter,
}


class InertUnpickler(pickle.Unpickler):
    """Unpickler for torch's zip format that lets tensors and plain types through and nothing else.

    Every other class or function becomes `Placeholder`: its arguments are dropped, nothing of it is imported
    or run.

    Args:
        archive: the opened weights file.
        folder: folder inside the archive, with the trailing slash.
        data: the pickle itself.
    """

    def __init__(self, archive: zipfile.ZipFile, folder: str, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        return _ALLOWED.get((module, name), lambda: Placeholder)()

    def persistent_load(self, pid: Any) -> Tensor:
        if not (
            isinstance(pid, tuple)
            and len(pid) == 5
            and pid[0] == "storage"
            and isinstance(pid[1], _StorageType)
        ):
            raise pickle.UnpicklingError(f"an unknown kind of stored value: {str(pid)[:80]}")
        key = str(pid[2])
        if key not in self._storages:
            raw = bytearray(read_member(self._archive, f"{self._folder}data/{key}"))
            empty = torch.empty(0, dtype=pid[1].dtype)
            self._storages[key] = torch.frombuffer(raw, dtype=pid[1].dtype) if raw else empty
        return self._storages[key]


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a file of the archive; compressed ones, which torch never writes, are refused as bombs."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"{name} is compressed, which torch doesn't do")
    return archive.read(name)


def read_weights_file(path: str | Path) -> dict[str, Any]:
    """Read a .pth, .pth.tar or .safetensors file without executing anything from it.

    Files that hold only tensors and plain types are read by torch itself (`weights_only=True`); those that
    don't, such as the checkpoints of the published trackers, by `InertUnpickler`.

    Returns:
        The file's dictionary. Foreign objects in it are `Placeholder`s.

    Raises:
        CheckpointError: the file doesn't exist, is damaged, isn't a weights file, is in torch's old format
            with foreign objects, or doesn't hold a dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"no weights file at {path}; correct the path, or leave it empty to start from nothing"
        )
    try:
        content = {"net": load_file(path)} if path.suffix == ".safetensors" else _read_torch(path)
    except _MALFORMED as error:
        raise CheckpointError(f"{path} is damaged or not a weights file ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, wanted a dictionary of weights")
    return content


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _MALFORMED as error:
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} can't be read safely: it is damaged, or in torch's format from before version 1.6 "
                "with foreign objects in it. Where you trust it, load and save it again with a newer torch. "
                f"({_first_line(error)})"
            ) from error
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inner = next((name for name in names if name.rsplit("/", 1)[-1] == "data.pkl"), None)
        if inner is None:
            raise pickle.UnpicklingError("a zip file without data.pkl")
        folder = inner[: -len("data.pkl")]
        return InertUnpickler(archive, folder, read_member(archive, inner)).load()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def state_dict_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Take the state dict out of a weights file: its `net`, `model` or `state_dict`, or the file itself.

    Raises:
        CheckpointError: there is none, or entries of it aren't plain tensors.
    """
    for key in ("net", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
            if strange:
                raise CheckpointError(
                    f"{path}: {len(strange)} entries of '{key}' aren't plain tensors (sparse, quantised and "
                    f"8-bit ones can't be read): {', '.join(strange)[:300]}"
                )
            break
    tensors = {
        str(key).removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise CheckpointError(
            f"{path} holds no weights: wanted tensors under 'net' or 'model', found "
            f"{', '.join(map(str, content))[:200]}"
        )
    return tensors


@dataclass
class LoadReport:
    """What a weights file gave.

    Attributes:
        kind: "none" (no file), "backbone" (ViT pre-training), "ostrack" or "hiptrack"; "own" for a file of
            this project, whichever tracker it holds.
        path: the file.
        loaded: number of tensors taken.
        new: names that the file doesn't have and that keep their initial values.
        ignored: names in the file that this kind of file always has in excess (a pre-training's decoder).
        classes: names of the scene conditions, in a file of this project.
        epoch: epoch of the file, or None.
    """

    kind: str = "none"
    path: Path | None = None
    loaded: int = 0
    new: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    classes: list[str] | None = None
    epoch: int | None = None

    def sentence(self) -> str:
        """Say in one line what was loaded and what is new."""
        if self.kind == "none":
            return "weights: none given, the whole model starts from random values"
        text = f"weights: {self.loaded} tensors from {self.path} ({self.kind})"
        if self.new:
            groups = sorted({name.split(".")[0] for name in self.new})
            text += f"; newly initialised: {len(self.new)} tensors of {', '.join(groups)}"
        return text


def kind_of(state: Mapping[str, Tensor]) -> str:
    """Tell by its names what a state dict is of: "backbone", "ostrack" or "hiptrack"."""
    if not any(key.startswith("backbone.") for key in state):
        return "backbone"
    return "hiptrack" if any(key.startswith("HIP.") for key in state) else "ostrack"


def load_into(
    tracker: nn.Module, state: Mapping[str, Tensor], kind: str, path: Path, task_prefixes: Iterable[str]
) -> LoadReport:
    """Load a state dict; every key must be accounted for.

    Missing may be: the task heads; the history network and the temporal tables when the file is of the
    OSTrack kind; everything but the backbone when it is of the backbone kind. Nothing may be in excess,
    except a pre-training's own head or decoder.

    Raises:
        CheckpointError: any other missing or unexpected name, or a shape that differs; all are listed.
    """
    own_state = tracker.state_dict()
    may_miss = tuple(task_prefixes)
    ignored: list[str] = []
    if kind == "backbone":
        state, ignored = _from_pretraining(state, own_state)
        may_miss = (*may_miss, "box_head.", *HISTORY_PREFIXES, *TEMPORAL_KEYS, *POSITION_KEYS)
    elif kind == "ostrack":
        may_miss = (*may_miss, *HISTORY_PREFIXES, *TEMPORAL_KEYS)
    missing = [key for key in own_state if key not in state]
    refused = [key for key in missing if not key.startswith(may_miss)]
    unexpected = [key for key in state if key not in own_state]
    shapes = [
        f"{key}: file {tuple(state[key].shape)}, model {tuple(own_state[key].shape)}"
        for key in state
        if key in own_state and state[key].shape != own_state[key].shape
    ]
    _refuse(path, kind, refused, unexpected, shapes)
    tracker.load_state_dict({**own_state, **state})
    if kind == "backbone":
        tracker.backbone.resize_position_tables()
    return LoadReport(kind, path, len(state), missing, ignored)


def _from_pretraining(
    state: Mapping[str, Tensor], own_state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename a ViT's weights for the backbone; names that only its pre-training needs are set aside."""
    excess = ("head.", "fc_norm.", "decoder_", "mask_token", "head_dist.", "pre_logits.")
    ignored = [key for key in state if key.startswith(excess)]
    kept = {f"backbone.{key}": value for key, value in state.items() if not key.startswith(excess)}
    if "backbone.norm.weight" not in kept:  # a file with fc_norm has none
        kept.update({key: own_state[key] for key in ("backbone.norm.weight", "backbone.norm.bias")})
    return kept, ignored


def _refuse(path: Path, kind: str, missing: list[str], unexpected: list[str], shapes: list[str]) -> None:
    parts = [
        f"{len(names)} {title}:\n    " + "\n    ".join(names)
        for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if parts:
        hint = ""
        if kind == "hiptrack" and unexpected and all(key.startswith(_HIPTRACK_ONLY) for key in unexpected):
            hint = "\n  These are HIPTrack's weights and this model has no history: build it with hiptrack."
        if any("pos_embed" in line or "conv1_" in line for line in shapes):
            hint = (
                "\n  Other shapes mean another size: compare DATA.*.SIZE, MODEL.BACKBONE and MODEL.HEAD "
                "with the file's."
            )
        counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(shapes)} of another shape"
        raise CheckpointError(
            f"{path} ({kind} weights) doesn't fit the model:\n  "
            + "\n  ".join(parts)
            + f"{hint}\n  In short: {path} doesn't fit, {counts}."
        )
