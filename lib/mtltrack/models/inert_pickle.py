"""Read the pickle of a weights file without importing or running anything that it names."""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

# what a damaged or hostile file can raise on its way through a reader
MALFORMED = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, SafetensorError),
    *(KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError),
    *(EOFError, OSError, RuntimeError, MemoryError),
)


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
