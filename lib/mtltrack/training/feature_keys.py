"""By what a frozen part's answer is known: everything that it depends on, as digests."""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from mtltrack.core.types import Clip
from mtltrack.training.feature_store import bytes_of

LAYOUT = 1
"""Of what is stored; a change of it is another key."""
CONTENT = ("template", "template_boxes_xywh", "search", "template_brightness", "search_brightness")
"""What frozen parts see of a clip; its labels, times and detail views are the heads'."""
DIGEST_BYTES = 20
READ = ("mtltrack.core", "mtltrack.losses", "mtltrack.models")
"""What a part's code may import beside its own file (boxes are converted where the losses are)."""
VERSIONED = ("torch.", "torchvision.", "timm.", "builtins.")  # whose versions are told, not their sources
PRECISIONS = ("mkldnn.matmul", "mkldnn.conv", "cuda.matmul", "cudnn.conv")


def weights_key(parts: Mapping[str, nn.Module], *more: Any) -> str:
    """Return a digest of the parts' weights, buffers and settings, and of the libraries' versions.

    Args:
        parts: by name.
        more: plain values that matter too.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    versions = [LAYOUT, *(module.__version__ for module in (torch, torchvision, timm))]
    digest.update(json.dumps([versions, list(parts), more]).encode())
    for name, part in parts.items():
        digest.update(json.dumps([[name, *row] for row in _structure(part)]).encode())
        for key, tensor in [*part.named_parameters(), *part.named_buffers()]:
            digest.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(bytes_of(tensor))
    return digest.hexdigest()


def code_key(parts: Iterable[nn.Module]) -> str:
    """Return a digest of the source of the models, what they import, and of classes from elsewhere."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for path in _sources(parts):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def sample_keys(clip: Clip, *more: Any) -> list[str]:
    """Return a digest of each sample's content.

    The size of the batch and the sample's place in it belong to it: they may decide how sums are rounded.

    Args:
        clip: as it comes from the loader.
        more: plain values that matter too.
    """
    common = json.dumps([clip.batch_size, more])
    content = {name: getattr(clip, name) for name in CONTENT}
    here = {name: value.cpu() for name, value in content.items() if value is not None}
    return [_sample_key(f"{common} {row}", here, row) for row in range(clip.batch_size)]


def _sample_key(about: str, content: Mapping[str, Tensor], row: int) -> str:
    digest = hashlib.blake2b(about.encode(), digest_size=DIGEST_BYTES)
    for name, value in content.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(bytes_of(value[row]))
    return digest.hexdigest()


def numerics(device: torch.device) -> dict[str, Any]:
    """Return what decides how a device rounds at present, as plain values: kernels, precision, threads."""
    mixed = torch.is_autocast_enabled(device.type)
    found = {
        "mixed": str(torch.get_autocast_dtype(device.type)) if mixed else "",
        "recording": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        **{name: _fp32_precision(name) for name in PRECISIONS},
        "device": device.type,
    }
    if device.type == "cuda":
        return {**found, "chip": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    chip = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    return {**found, "chip": chip, "threads": torch.get_num_threads()}


def _fp32_precision(name: str) -> str:
    """Return by what torch may compute float32 products of a backend; "" where this torch doesn't tell."""
    backend: Any = torch.backends
    for step in name.split("."):
        backend = getattr(backend, step, None)
    return str(getattr(backend, "fp32_precision", ""))


def plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the settings that a module keeps as plain values, such as its number of attention heads."""
    return {
        name: value
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and name != "training" and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _structure(part: nn.Module) -> Iterator[list[Any]]:
    for name, module in part.named_modules():
        kind = type(module)
        yield [name, f"{kind.__module__}.{kind.__qualname__}", repr(plain_attributes(module))]


def _sources(parts: Iterable[nn.Module]) -> list[Path]:
    found = {path for folder in READ for path in Path(str(files(folder))).rglob("*.py")}
    for part in parts:
        kinds = {kind for module in part.modules() for kind in type(module).__mro__}
        named = [kind for kind in kinds if not f"{kind.__module__}.".startswith(VERSIONED)]
        found.update(Path(path) for kind in named if (path := inspect.getsourcefile(kind)))
    return sorted(found)
